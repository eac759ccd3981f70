//! Times as people read them.

use serde_json::Value;

use crate::object;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Spells a duration with two or three significant figures, by the rules of Kubernetes' `HumanDuration`:
/// `45s`, `2m5s`, `12m`, `3h20m`, `9h`, `2d3h`, `30d`, `2y40d`.
pub fn human_duration(secs: i64) -> String {
    let (minutes, hours, days, years) = (secs / MINUTE, secs / HOUR, secs / DAY, secs / YEAR);
    match secs {
        // Clocks may differ a little: just ahead of us is now.
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if secs < 2 * MINUTE => format!("{secs}s"),
        _ if minutes < 10 => with_rest(minutes, 'm', secs % MINUTE, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => with_rest(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => with_rest(days, 'd', hours % 24, 'h'),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => with_rest(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    }
}

/// Returns the age of an object.
pub(super) fn of(object: &Value, now_secs: i64) -> String {
    since(object::str_at(object, &["metadata", "creationTimestamp"]), now_secs)
}

/// Returns the time since a timestamp, `<unknown>` when it is none.
pub(super) fn since(timestamp: &str, now_secs: i64) -> String {
    seconds(timestamp).map_or_else(|| "<unknown>".to_owned(), |at| human_duration(now_secs.saturating_sub(at)))
}

/// Reads a timestamp as Unix time.
pub(super) fn seconds(timestamp: &str) -> Option<i64> {
    timestamp.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

fn with_rest(whole: i64, unit: char, rest: i64, rest_unit: char) -> String {
    if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{rest_unit}") }
}
