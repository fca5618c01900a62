//! Counters and histograms, and their text format for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// Counters, keyed by the values of their labels.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<Vec<String>, f64>>);

/// Histograms, keyed by the values of their labels.
#[derive(Debug)]
pub struct Histograms {
    bounds: Vec<f64>,
    all: Mutex<BTreeMap<Vec<String>, Buckets>>,
}

#[derive(Debug, Clone)]
struct Buckets {
    /// The count of each bucket; the last one is unbounded.
    counts: Vec<u64>,
    sum: f64,
}

impl Counters {
    pub fn add(&self, labels: &[&str], by: f64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(owned(labels)).or_insert(0.0) += by;
    }
}

impl Histograms {
    /// Returns histograms with these upper bounds, in ascending order.
    pub fn new(bounds: Vec<f64>) -> Self {
        Self { bounds, all: Mutex::default() }
    }

    pub fn observe(&self, labels: &[&str], value: f64) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = || Buckets { counts: vec![0; self.bounds.len() + 1], sum: 0.0 };
        let buckets = all.entry(owned(labels)).or_insert_with(empty);
        let at = self.bounds.partition_point(|bound| *bound < value);
        buckets.counts[at] += 1;
        buckets.sum += value;
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// Text in Prometheus' format 0.0.4.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// The media type of the text.
    pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    pub fn into_text(self) -> String {
        self.text
    }

    pub fn counters(&mut self, name: &str, help: &str, labels: &[&str], counters: &Counters) {
        self.head(name, help, "counter");
        for (values, count) in &*counters.0.lock().unwrap_or_else(PoisonError::into_inner) {
            self.sample(name, labels, values, *count);
        }
    }

    pub fn gauge(&mut self, name: &str, help: &str, labels: &[&str], samples: &[(Vec<String>, f64)]) {
        self.head(name, help, "gauge");
        samples.iter().for_each(|(values, value)| self.sample(name, labels, values, *value));
    }

    pub fn histograms(&mut self, name: &str, help: &str, labels: &[&str], histograms: &Histograms) {
        self.head(name, help, "histogram");
        let bounds: Vec<String> = histograms.bounds.iter().map(|bound| shown(*bound)).collect();
        for (values, buckets) in &*histograms.all.lock().unwrap_or_else(PoisonError::into_inner) {
            let with_le: Vec<&str> = labels.iter().copied().chain(["le"]).collect();
            let mut total = 0;
            for (bound, count) in bounds.iter().map(String::as_str).chain(["+Inf"]).zip(&buckets.counts) {
                total += count;
                let values: Vec<String> = values.iter().cloned().chain([bound.to_owned()]).collect();
                self.sample(&format!("{name}_bucket"), &with_le, &values, total as f64);
            }
            self.sample(&format!("{name}_sum"), labels, values, buckets.sum);
            self.sample(&format!("{name}_count"), labels, values, total as f64);
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[&str], values: &[String], value: f64) {
        self.text.push_str(name);
        for (at, (label, value)) in labels.iter().zip(values).enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(value));
        }
        let _ = writeln!(self.text, "{} {}", if labels.is_empty() { "" } else { "}" }, shown(value));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn shown(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        value if value != 0.0 && (value.abs() < 1e-4 || value.abs() >= 1e15) => format!("{value:e}"),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the text format, with cumulative buckets and escaped labels.
    #[test]
    fn text_is_prometheus_form() {
        let (counters, histograms) = (Counters::default(), Histograms::new(vec![0.5, 1.0]));
        counters.add(&["a\"b\n"], 2.0);
        [0.5, 0.7, 3.0].iter().for_each(|value| histograms.observe(&[], *value));
        let mut exposition = Exposition::default();
        exposition.counters("c_total", "Counts.", &["name"], &counters);
        exposition.histograms("h", "Sizes.", &[], &histograms);
        let expected = "# HELP c_total Counts.\n# TYPE c_total counter\nc_total{name=\"a\\\"b\\n\"} 2\n\
                        # HELP h Sizes.\n# TYPE h histogram\n\
                        h_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\n\
                        h_sum 4.2\nh_count 3\n";
        assert_eq!(exposition.into_text(), expected);
    }
}
