//! Durations as Kubernetes clients write them: `30s`, `1m30s`, `2h`.

use std::time::Duration;

/// Parses a duration; a bare number is seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a duration such as 30s, 5m or 1h30m");
    if let Ok(secs) = text.parse::<u64>() {
        return Ok(Duration::from_secs(secs));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let unit_len = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let secs = match &after[..unit_len] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        total += Duration::try_from_secs_f64(number * secs).map_err(|_| wrong())?;
        rest = &after[unit_len..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_kubectl() {
        let secs = |text: &str| parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(secs("30s"), Ok(30.0));
        assert_eq!(secs("1m30s"), Ok(90.0));
        assert_eq!(secs("1.5h"), Ok(5400.0));
        assert_eq!(secs("100ms"), Ok(0.1));
        assert_eq!(secs("45"), Ok(45.0));
        for wrong in ["", "s", "5x", "-3s", "1..2s", "m5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
