use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parsed(text: &str) -> Quantity {
    Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn canonical_forms_are_those_of_kubernetes() {
    let cases = [
        ("0", "0"),
        ("000", "0"),
        ("-0", "0"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("100m", "100m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1023", "1023"),
        ("512Ki", "512Ki"),
        ("0.5Mi", "512Ki"),
        ("1.1Ki", "1127"),
        ("0.5Ki", "512"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("1E3", "1e3"),
        ("1000E", "1000E"),
        ("5e-3", "5e-3"),
        ("0.0000000001", "1n"),
        ("-0.0000000001", "-1n"),
        ("100u", "100u"),
        ("+7", "7"),
        ("-1", "-1"),
        (".5", "500m"),
        ("5.", "5"),
        ("1.G", "1G"),
        ("16Ei", "9223372036854775807"),
        ("100000000000000000000Ei", "9223372036854775807"),
    ];
    for (text, wanted) in cases {
        assert_eq!(canonical(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn malformed_text_is_refused() {
    for text in ["", "-", ".", "m", "abc", "1 Gi", "1,5", "0x10", "1.2.3", "1Gi ", "١"] {
        assert_eq!(Quantity::parse(text), Err(Error::Format), "{text}");
    }
    for text in ["1mi", "1K", "1kk", "1e", "1e3.5", "1i"] {
        assert!(Quantity::parse(text).is_err(), "{text}");
    }
    assert_eq!(Quantity::parse("1K"), Err(Error::Suffix));
}

#[test]
fn values_round_up() {
    assert_eq!(parsed("1m").value(), 1);
    assert_eq!(parsed("-1m").value(), -1);
    assert_eq!(parsed("1100m").value(), 2);
    assert_eq!(parsed("1n").milli_value(), 1);
    assert_eq!(parsed("64Mi").value(), 67_108_864);
    assert_eq!(parsed("9e99").value(), i64::MAX);
    assert_eq!(parsed("-9e99").value(), i64::MIN);
    assert_eq!(parsed("0e9999999999999").value(), 0);
    assert_eq!(parsed("1e-999999999").to_string(), "1e-9");
    assert_eq!(parsed("100u").round_up_to_milli().to_string(), "1m");
}

#[test]
fn arithmetic_keeps_the_notation_of_the_first_amount() {
    assert_eq!((parsed("1Gi") + parsed("1024Mi")).to_string(), "2Gi");
    assert_eq!((parsed("1") - parsed("300m")).to_string(), "700m");
    assert_eq!((Quantity::ZERO + parsed("1Gi")).to_string(), "1Gi");
    assert!(parsed("1000m") == parsed("1"));
    assert!(parsed("1Ki") > parsed("1k"));
    assert!((parsed("1") - parsed("2")).is_negative());
}

#[test]
fn json_numbers_are_quantities_too() {
    assert_eq!(Quantity::from_value(&json!(2)), Ok(parsed("2")));
    assert_eq!(Quantity::from_value(&json!(0.25)), Ok(parsed("250m")));
    assert_eq!(Quantity::from_value(&json!(true)), Err(Error::Format));
}

proptest! {
    #[test]
    fn parsing_is_total(text: String, junk in "[+-]?[0-9.]{0,50}[eEinumkKMGTP]{0,3}[+-]?[0-9]{0,12}") {
        for candidate in [text, junk] {
            if let Ok(quantity) = Quantity::parse(&candidate) {
                let _ = (quantity.value(), quantity.milli_value(), quantity + quantity, quantity - quantity);
                prop_assert_eq!(quantity.to_string().len(), quantity.to_string().chars().count());
            }
        }
    }

    #[test]
    fn printing_round_trips(units in any::<i64>(), thousandths in 0_i64..1000, suffix in "|n|u|m|k|M|Ki|Mi|e2|e-2") {
        let text = format!("{units}.{thousandths:03}{suffix}");
        let quantity = parsed(&text);
        let printed = quantity.to_string();
        let again = parsed(&printed);
        prop_assert_eq!(again.to_string(), printed);
        if quantity.format() != Format::Binary {
            prop_assert_eq!(again, quantity);
        }
    }

    #[test]
    fn sums_undo(left in -1_000_000_000_i64..1_000_000_000, right in -1_000_000_000_i64..1_000_000_000) {
        let (left, right) = (Quantity::from_milli(left), Quantity::from_milli(right));
        prop_assert_eq!(left + right - right, left);
        prop_assert_eq!((left + right).cmp(&left), right.cmp(&Quantity::ZERO));
    }
}
