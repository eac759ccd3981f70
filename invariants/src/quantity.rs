//! Kubernetes quantities as thousandths. Its own reading, so that an oracle does not share a mistake with what it judges.

const SUFFIXES: [(&str, i128, i128); 14] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
];

/// Reads a quantity as thousandths, rounded up; `None` for what is none.
pub(crate) fn thousandths(text: &str) -> Option<i128> {
    let (number, times, by) = SUFFIXES
        .iter()
        .find_map(|(suffix, times, by)| text.strip_suffix(suffix).map(|number| (number, *times, *by)))
        .unwrap_or((text, 1, 1));
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<u32>().ok().filter(|exponent| *exponent < 18)?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let numerator = digits.checked_mul(times)?.checked_mul(10i128.pow(exponent))?.checked_mul(1000)?;
    let divisor = scale.checked_mul(by)?;
    Some(numerator.div_euclid(divisor) + i128::from(numerator.rem_euclid(divisor) != 0))
}

#[cfg(test)]
mod tests {
    use super::thousandths;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let table = [
            ("1", 1_000),
            ("100m", 100),
            ("0.5", 500),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("2e3", 2_000_000),
            ("1n", 1),
            ("3k", 3_000_000),
        ];
        for (text, expected) in table {
            assert_eq!(thousandths(text), Some(expected), "{text}");
        }
        for junk in ["", "x", "1e99", "--1", "1Zi"] {
            assert_eq!(thousandths(junk), None, "{junk}");
        }
    }
}
