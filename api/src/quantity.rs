//! Quantities: `100m`, `1.5Gi`, `2e3`.
//!
//! A quantity is an exact number of billionths with the notation its author chose. Parsing, arithmetic and printing
//! follow Kubernetes' `resource.Quantity`: more than nine decimals round away from zero, binary amounts are capped
//! at 2^63-1, and what no `i128` can hold saturates instead of failing.

use std::{
    cmp::Ordering,
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

use serde_json::Value;

const NANO: i128 = 1_000_000_000;
/// Largest amount that is kept, in billionths: sums of a few of them still fit `i128`.
const NANOS_MAX: i128 = i128::MAX / 8;
/// More significant digits than this cannot change a number of billionths that fits.
const DIGITS_MAX: usize = 36;
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY_SUFFIXES: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// Why a text is not a quantity, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a number with a suffix at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// A number with a suffix that does not exist, such as `1Q` or `1mi`.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The notation a quantity is printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `500m`, `2`, `3k`.
    Decimal,
    /// `64Mi`, `1Gi`.
    Binary,
    /// `12e6`.
    Exponent,
}

/// An exact amount of something. Equality and order compare the amount, not the notation.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self { nanos: 0, format: Format::Decimal };

    /// Parses a text.
    ///
    /// # Errors
    /// [`Error`] when the text is not a quantity.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (negative, number, suffix) = split(text)?;
        let (magnitude, format) = match suffix_of(suffix).ok_or(Error::Suffix)? {
            Suffix::Decimal(exponent, format) => (decimal_nanos(&number, exponent), format),
            Suffix::Binary(bits) => {
                let nanos = binary_nanos(&number, bits);
                let below_one = nanos > 0 && nanos < NANO;
                (nanos, if below_one { Format::Decimal } else { Format::Binary })
            }
        };
        Ok(Self { nanos: if negative { -magnitude } else { magnitude }, format })
    }

    /// Reads a quantity from JSON, where it is a string or a number.
    ///
    /// # Errors
    /// [`Error`] when the value is neither, or not a quantity.
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Error::Format),
        }
    }

    /// Builds a whole number of units.
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, format: Format::Decimal }
    }

    /// Builds a number of thousandths, the unit of CPU shares.
    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * (NANO / 1000), format: Format::Decimal }
    }

    /// Builds a number of bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::Binary }
    }

    /// Returns the number of whole units, rounded up (away from zero) and saturated.
    pub fn value(&self) -> i64 {
        saturate(div_away(self.nanos, NANO))
    }

    /// Returns the number of thousandths, rounded up (away from zero) and saturated.
    pub fn milli_value(&self) -> i64 {
        saturate(div_away(self.nanos, NANO / 1000))
    }

    /// Returns the quantity with everything below a thousandth rounded up (away from zero).
    #[must_use]
    pub fn round_up_to_milli(self) -> Self {
        Self { nanos: div_away(self.nanos, NANO / 1000) * (NANO / 1000), ..self }
    }

    /// Whether the amount is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Returns the notation that the quantity prints in.
    pub fn format(&self) -> Format {
        self.format
    }

    fn combined(self, nanos: i128, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: nanos.clamp(-NANOS_MAX, NANOS_MAX), format }
    }
}

/// Puts a text into canonical form: `1024Mi` becomes `1Gi`, `0.5` becomes `500m`.
///
/// # Errors
/// As [`Quantity::parse`].
pub fn canonical(text: &str) -> Result<String, Error> {
    Quantity::parse(text).map(|quantity| quantity.to_string())
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.combined(self.nanos.saturating_add(other.nanos), other)
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.combined(self.nanos.saturating_sub(other.nanos), other)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            Format::Binary if !small => fmt_binary(self.nanos, f),
            Format::Binary | Format::Decimal => fmt_decimal(self.nanos, f),
            Format::Exponent => fmt_exponent(self.nanos, f),
        }
    }
}

/// The digits of a number before and after its point.
struct Digits<'a> {
    whole: &'a str,
    fraction: &'a str,
}

enum Suffix {
    Decimal(i32, Format),
    Binary(u32),
}

fn split(text: &str) -> Result<(bool, Digits<'_>, &str), Error> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = take_digits(unsigned);
    let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), take_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(Error::Format);
    }
    let letters = suffix.trim_start_matches(|letter: char| "eEinumkKMGTP".contains(letter));
    let (_, end) = take_digits(letters.strip_prefix(['-', '+']).unwrap_or(letters));
    if !end.is_empty() {
        return Err(Error::Format);
    }
    Ok((negative, Digits { whole: whole.trim_start_matches('0'), fraction: fraction.trim_end_matches('0') }, suffix))
}

fn take_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn suffix_of(text: &str) -> Option<Suffix> {
    if let Some((_, exponent)) = DECIMAL_SUFFIXES.iter().find(|(suffix, _)| *suffix == text) {
        return Some(Suffix::Decimal(*exponent, Format::Decimal));
    }
    if let Some((_, bits)) = BINARY_SUFFIXES.iter().find(|(suffix, _)| *suffix == text) {
        return Some(Suffix::Binary(*bits));
    }
    let exponent: i64 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
    let clamped = i32::try_from(exponent.clamp(-1000, 1000)).ok()?;
    Some(Suffix::Decimal(clamped, Format::Exponent))
}

fn decimal_nanos(number: &Digits<'_>, exponent: i32) -> i128 {
    let all = || number.whole.bytes().chain(number.fraction.bytes()).skip_while(|digit| *digit == b'0');
    let significant = all().count();
    let kept = significant.min(DIGITS_MAX);
    let digits = all().take(kept).fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    let inexact = all().skip(kept).any(|digit| digit != b'0');
    let places = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let shift = exponent
        .saturating_sub(places(number.fraction.len()))
        .saturating_add(places(significant - kept))
        .saturating_add(9);
    let digits = digits + i128::from(inexact);
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    match (shift >= 0, power) {
        (true, Some(power)) => digits.checked_mul(power).unwrap_or(NANOS_MAX).min(NANOS_MAX),
        (true, None) => {
            if digits == 0 {
                0
            } else {
                NANOS_MAX
            }
        }
        (false, Some(power)) => div_away(digits, power).min(NANOS_MAX),
        (false, None) => i128::from(digits != 0),
    }
}

fn binary_nanos(number: &Digits<'_>, bits: u32) -> i128 {
    let cap = i128::from(i64::MAX) * NANO;
    if number.whole.len() > 19 {
        return cap;
    }
    let whole = number.whole.bytes().fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    let Some(whole_nanos) = whole.checked_mul(NANO).and_then(|nanos| nanos.checked_mul(1 << bits)) else {
        return cap;
    };
    // Twenty decimals times 2^60 is the most that fits; further ones only decide the rounding.
    let kept = number.fraction.len().min(20);
    let fraction = number.fraction.bytes().take(kept).fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    let scaled = fraction << bits;
    let fraction_nanos = match u32::try_from(kept).unwrap_or(20) {
        places @ 0..=9 => scaled * 10_u128.pow(9 - places),
        places => scaled.div_ceil(10_u128.pow(places - 9)),
    };
    whole_nanos.saturating_add(i128::try_from(fraction_nanos).unwrap_or(cap)).min(cap)
}

/// Divides, rounding away from zero.
fn div_away(number: i128, by: i128) -> i128 {
    let quotient = number / by;
    if number % by == 0 { quotient } else { quotient + number.signum() }
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

fn fmt_decimal(nanos: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mantissa, exponent) = reduce(nanos, 18);
    let suffix = DECIMAL_SUFFIXES.iter().find(|(_, power)| *power == exponent).map_or("", |(suffix, _)| suffix);
    write!(f, "{mantissa}{suffix}")
}

fn fmt_exponent(nanos: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reduce(nanos, i32::MAX) {
        (mantissa, 0) => write!(f, "{mantissa}"),
        (mantissa, exponent) => write!(f, "{mantissa}e{exponent}"),
    }
}

fn fmt_binary(nanos: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut mantissa = div_away(nanos, NANO);
    let mut suffix = "";
    for (larger, _) in BINARY_SUFFIXES {
        if mantissa % 1024 != 0 {
            break;
        }
        mantissa /= 1024;
        suffix = larger;
    }
    write!(f, "{mantissa}{suffix}")
}

/// Takes out thousands: the mantissa and the power of ten, a multiple of three, not above `exponent_max`.
fn reduce(nanos: i128, exponent_max: i32) -> (i128, i32) {
    if nanos == 0 {
        return (0, 0);
    }
    let (mut mantissa, mut exponent) = (nanos, -9);
    while mantissa % 1000 == 0 && exponent < exponent_max {
        mantissa /= 1000;
        exponent += 3;
    }
    (mantissa, exponent)
}

#[cfg(test)]
mod tests;
