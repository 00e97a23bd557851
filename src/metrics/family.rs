//! Families of samples in the shape that the encoder wants.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use std::time::Duration;

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up.
    Counter,
}

/// Labels of a sample, by name.
pub(super) type Labels<'a> = [(&'static str, &'a str)];

/// A family that is being filled.
#[derive(Debug)]
pub(super) struct Family {
    name: String,
    help: &'static str,
    kind: Kind,
    metrics: Vec<Metric>,
}

impl Family {
    pub(super) fn new(kind: Kind, name: impl Into<String>, help: &'static str) -> Self {
        Self { name: name.into(), help, kind, metrics: Vec::new() }
    }

    /// A family of a single sample without labels.
    pub(super) fn single(kind: Kind, name: impl Into<String>, help: &'static str, value: f64) -> Self {
        Self::new(kind, name, help).sample(&[], value)
    }

    /// Adds a sample.
    pub(super) fn sample(mut self, labels: &Labels<'_>, value: f64) -> Self {
        self.push(labels, value);
        self
    }

    /// Adds a sample.
    pub(super) fn push(&mut self, labels: &Labels<'_>, value: f64) {
        let mut metric = Metric::from_label(labels.iter().map(|(name, value)| label(name, value)).collect());
        match self.kind {
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
        }
        self.metrics.push(metric);
    }

    /// The finished family, or nothing when it has no samples: the encoder takes an empty one for an error.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name);
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Gauge => MetricType::GAUGE,
            Kind::Counter => MetricType::COUNTER,
        });
        family.set_metric(self.metrics);
        Some(family)
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

/// A number as a sample has it. Above 2^53 it is no longer exact, which no rate will notice.
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

/// How many there are, as a sample has it.
pub(super) fn count(number: usize) -> f64 {
    number as f64
}

/// A limit as PgBouncer spells it: 0 is none.
pub(super) fn limit(limit: Option<u32>) -> f64 {
    f64::from(limit.unwrap_or(0))
}

/// Microseconds in seconds, the base unit of Prometheus.
pub(super) fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
