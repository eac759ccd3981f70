//! `events`: what happened, oldest first.

use drover_api::{
    object::{self, str_at},
    table::human_duration,
};
use serde_json::Value;

use crate::{
    cli::Context,
    cluster::{Event, Query, follow},
    completion, explain,
    input::select_one,
    output::Table,
};

/// Show what happened.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  droverctl events\n  droverctl events --for pod/web-1 -w\n  droverctl events -A --types=Warning"
)]
pub(crate) struct Args {
    /// Only about this object: KIND/NAME
    #[arg(long = "for", value_name = "OBJECT", add = completion::objects())]
    subject: Option<String>,
    /// Go on and show what happens
    #[arg(short, long)]
    watch: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only of these types: Normal, Warning
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Without headings
    #[arg(long)]
    no_headers: bool,
}

/// Runs `events`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let mut query = Query::new();
    if let Some(subject) = &args.subject {
        let (resource, name) = select_one(&cluster, std::slice::from_ref(subject), None).await?;
        query =
            query.with("fieldSelector", format!("involvedObject.kind={},involvedObject.name={name}", resource.kind));
    }
    let namespace = (!args.all_namespaces).then_some(cluster.namespace.as_str());
    let collection = cluster.resource("events").await?.collection(namespace);
    let wanted = |event: &Value| is_wanted(event, &args.types);
    let mut listed = cluster.list(&query.on(&collection)).await?;
    listed.retain(wanted);
    if listed.is_empty() && !args.watch {
        let place = if args.all_namespaces { String::new() } else { format!(" in {} namespace", cluster.namespace) };
        ctx.output.note(&format!("No events found{place}."));
        return Ok(0);
    }
    let mut table = rows(&listed, args.all_namespaces, !args.no_headers, now_secs());
    table.lines().into_iter().try_for_each(|line| ctx.output.line(line))?;
    if !args.watch {
        return Ok(0);
    }
    let mut changes = follow(&cluster, collection, query);
    while let Some(change) = changes.recv().await {
        let seen = match change {
            Event::Changed(event) if wanted(&event) => event,
            Event::Lost(error) => {
                ctx.output.note(&format!("warning: {error}"));
                continue;
            }
            Event::Listed(_) | Event::Changed(_) | Event::Deleted(_) => continue,
        };
        let mut next = Table::like(&table);
        row(&seen, args.all_namespaces, now_secs(), &mut next);
        next.lines().into_iter().try_for_each(|line| ctx.output.line(line))?;
        table = next;
    }
    Ok(0)
}

/// Decision traces are for `why`: here they would only be noise.
fn is_wanted(event: &Value, types: &[String]) -> bool {
    let of_type = types.is_empty() || types.iter().any(|one| one.eq_ignore_ascii_case(str_at(event, &["type"])));
    of_type && str_at(event, &["reason"]) != super::why::TRACE
}

/// The table of events, oldest first.
pub(super) fn rows(events: &[Value], with_namespace: bool, headers: bool, now_secs: i64) -> Table {
    let mut sorted: Vec<&Value> = events.iter().collect();
    sorted.sort_by_key(|event| explain::time(event).to_owned());
    let mut table = Table::new();
    if headers {
        let columns = ["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
        table.row(columns.into_iter().skip(usize::from(!with_namespace)));
    }
    sorted.into_iter().for_each(|event| row(event, with_namespace, now_secs, &mut table));
    table
}

fn row(event: &Value, with_namespace: bool, now_secs: i64, table: &mut Table) {
    let subject = format!(
        "{}/{}",
        str_at(event, &["involvedObject", "kind"]).to_lowercase(),
        str_at(event, &["involvedObject", "name"])
    );
    let message = str_at(event, &["message"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let cells = [
        object::namespace(event).to_owned(),
        age(event, now_secs),
        str_at(event, &["type"]).to_owned(),
        str_at(event, &["reason"]).to_owned(),
        subject,
        message,
    ];
    table.row(cells.into_iter().skip(usize::from(!with_namespace)));
}

/// `5s`, or `5s (x7 over 2m)` for what happened several times.
pub(super) fn age(event: &Value, now_secs: i64) -> String {
    let secs_since = |time: &str| time.parse::<jiff::Timestamp>().ok().map(|time| now_secs - time.as_second());
    let Some(last) = secs_since(explain::time(event)) else { return "<unknown>".to_owned() };
    let series = object::at(event, &["series", "count"]).and_then(Value::as_i64);
    let count = series.or_else(|| event["count"].as_i64()).unwrap_or(1);
    match secs_since(str_at(event, &["firstTimestamp"])) {
        Some(first) if count > 1 => format!("{} (x{count} over {})", human_duration(last), human_duration(first)),
        Some(_) | None => human_duration(last),
    }
}

/// The time, for ages.
pub(super) fn now_secs() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_listed_oldest_first_with_their_repetitions() {
        let event = |reason: &str, last: &str, count: i64| {
            json!({"metadata": {"namespace": "shop"}, "type": "Normal", "reason": reason, "message": "one\n two", "count": count,
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": last, "involvedObject": {"kind": "Pod", "name": "web-1"}})
        };
        let events = [event("Later", "2026-01-01T00:01:00Z", 3), event("First", "2026-01-01T00:00:10Z", 1)];
        let now = "2026-01-01T00:01:10Z".parse::<jiff::Timestamp>().unwrap().as_second();
        expect![[r"
            LAST SEEN           TYPE     REASON   OBJECT      MESSAGE
            60s                 Normal   First    pod/web-1   one two
            10s (x3 over 70s)   Normal   Later    pod/web-1   one two"]]
        .assert_eq(&rows(&events, false, true, now).lines().join("\n"));
    }

    #[test]
    fn traces_and_other_types_are_left_out() {
        assert!(!is_wanted(&json!({"reason": "SchedulingTrace"}), &[]));
        assert!(is_wanted(&json!({"reason": "x", "type": "Warning"}), &["warning".to_owned()]));
        assert!(!is_wanted(&json!({"reason": "x", "type": "Normal"}), &["warning".to_owned()]));
    }
}
