//! The server's own numbers in Prometheus' text format, under Kubernetes' names.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use drover_api::kinds;

use crate::request::RequestInfo;

/// Upper bounds in seconds; kube-apiserver's, thinned out.
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 5.0, 15.0, 60.0];

/// Counts requests. Labels come from the table of kinds, so that no client can make series at will.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: BTreeMap<(Labels, u16), u64>,
    durations: BTreeMap<Labels, Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    sum: f64,
    count: u64,
}

impl Requests {
    /// Counts an answered request; `info` is `None` for one that could not be read.
    pub(crate) fn observe(&self, info: Option<&RequestInfo>, code: u16, took: Duration) {
        let labels = Labels::of(info);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.total.entry((labels.clone(), code)).or_default() += 1;
        // Watches and streams last as long as their clients like, which says nothing about the server.
        if labels.verb != "WATCH" && labels.verb != "CONNECT" {
            counts.durations.entry(labels).or_default().observe(took.as_secs_f64());
        }
    }

    /// Renders everything.
    pub(crate) fn render(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text =
            String::from("# HELP apiserver_request_total Requests answered.\n# TYPE apiserver_request_total counter\n");
        for ((labels, code), count) in &counts.total {
            line(&mut text, "apiserver_request_total", &format!("{},code=\"{code}\"", labels.render()), *count);
        }
        text += "# HELP apiserver_request_duration_seconds Time to the head of the answer.\n";
        text += "# TYPE apiserver_request_duration_seconds histogram\n";
        for (labels, histogram) in &counts.durations {
            histogram.render(&mut text, &labels.render());
        }
        text
    }
}

impl Labels {
    fn of(info: Option<&RequestInfo>) -> Self {
        let nothing = Self { verb: "", group: "", version: "", resource: "", subresource: "" };
        let Some(info) = info else { return nothing };
        let verb = match info.verb {
            "get" | "head" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            _ => "DELETECOLLECTION",
        };
        let Some(kind) = kinds::by_resource(&info.api_group, &info.api_version, &info.resource) else {
            return Self { verb, ..nothing };
        };
        let subresource = kind.subresources.iter().find(|name| **name == info.subresource).copied().unwrap_or_default();
        let connects = matches!(subresource, "exec" | "attach" | "portforward" | "log");
        let verb = if connects { "CONNECT" } else { verb };
        Self { verb, group: kind.group, version: kind.version, resource: kind.plural, subresource }
    }

    fn render(&self) -> String {
        let Self { verb, group, version, resource, subresource } = self;
        format!(
            "verb=\"{verb}\",group=\"{group}\",version=\"{version}\",resource=\"{resource}\",subresource=\"{subresource}\""
        )
    }
}

impl Histogram {
    fn observe(&mut self, secs: f64) {
        for (bucket, _) in self.buckets.iter_mut().zip(BUCKETS).filter(|(_, bound)| secs <= *bound) {
            *bucket += 1;
        }
        self.sum += secs;
        self.count += 1;
    }

    fn render(&self, text: &mut String, labels: &str) {
        const NAME: &str = "apiserver_request_duration_seconds";
        for (count, bound) in self.buckets.iter().zip(BUCKETS) {
            line(text, &format!("{NAME}_bucket"), &format!("{labels},le=\"{bound}\""), *count);
        }
        line(text, &format!("{NAME}_bucket"), &format!("{labels},le=\"+Inf\""), self.count);
        line(text, &format!("{NAME}_sum"), labels, self.sum);
        line(text, &format!("{NAME}_count"), labels, self.count);
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    writeln!(text, "{name}{{{labels}}} {value}").expect("writing to a string cannot fail");
}
