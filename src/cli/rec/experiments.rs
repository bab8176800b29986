//! `quire rec experiments` and `quire rec report`: which readers see what, and what came of it.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;

use crate::actors::recommendation::split::{Estimate, VariantOutcome};
use crate::cli::data::Data;
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::options::DataOptions;
use crate::cli::output::say;
use crate::http::experiments::{self, ExperimentReport, Experiments};

/// Options of `quire rec experiments`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// TOML file with the experiments from now on; without one, prints those of now
    file: Option<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
}

/// Options of `quire rec report`.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// Only this experiment
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// One line of JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataOptions,
}

impl Set {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let wanted = self.file.as_ref().map(|path| Experiments::of_file(path));
        let wanted = wanted.transpose().map_err(Failure::usage)?;
        let config = self.data.load()?;
        logging::start_quiet(&config);
        let data = Data::open_existing(&config).await?;
        let outcome = match wanted {
            Some(wanted) => set(&data, wanted).await.map(|()| None),
            None => report(&data).await.map(Some),
        };
        data.close().await?;
        if let Some(report) = outcome? {
            say(report.now.to_toml().trim_end());
        }
        Ok(())
    }
}

impl Report {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.data.load()?;
        logging::start_quiet(&config);
        let data = Data::open_existing(&config).await?;
        let report = report(&data).await;
        data.close().await?;
        let mut report = report?;
        if let Some(name) = &self.experiment {
            let experiments = &mut report.now.experiments;
            if !experiments.iter().any(|one| one.name == *name) {
                return Err(Failure::usage(format!(
                    "there is no experiment `{name}`: `quire rec experiments` prints them"
                )));
            }
            experiments.retain(|one| one.name == *name);
            report.outcomes.retain(|one| one.experiment == *name);
        }
        match self.json {
            true => say(&serde_json::to_string(&report).expect("it is plain data")),
            false => say(table(&report).trim_end()),
        }
        Ok(())
    }
}

async fn report(data: &Data) -> Result<ExperimentReport, Failure> {
    match data {
        Data::Stopped(node) => {
            experiments::report(&node.app).await.map_err(|failure| super::failed(&failure))
        }
        Data::Running(client) => {
            let body = client.get("/experiments").await?;
            serde_json::from_slice(&body).map_err(|error| client.failed(&error))
        }
    }
}

async fn set(data: &Data, wanted: Experiments) -> Result<(), Failure> {
    match data {
        Data::Stopped(node) => {
            experiments::set(&node.app, wanted).await.map_err(|failure| super::failed(&failure))
        }
        Data::Running(client) => {
            let body = serde_json::to_vec(&wanted).expect("it is plain data");
            client.post("/experiments", Bytes::from(body)).await.map(drop)
        }
    }
}

/// The outcomes, for people. Each variant beside the first one of its experiment.
fn table(report: &ExperimentReport) -> String {
    if report.now.experiments.is_empty() {
        return "there are no experiments: `quire rec experiments FILE` sets some\n".to_owned();
    }
    let mut lines = vec![format!(
        "{:<28}{:>10}{:>10}{:>8}{:>20}{:>22}{:>20}",
        "", "answers", "shown", "read", "click-through", "against the first", "of the new (SNIPS)"
    )];
    for experiment in &report.now.experiments {
        let outcome = |variant: &str| {
            let mut all = report.outcomes.iter();
            all.find(|one| one.experiment == experiment.name && one.variant == variant)
        };
        let first = experiment.variants.first().and_then(|variant| outcome(&variant.name));
        for (nth, variant) in experiment.variants.iter().enumerate() {
            let name = format!("{}/{}", experiment.name, variant.name);
            let Some(found) = outcome(&variant.name) else {
                lines.push(format!("{name:<28}{:>10}", 0));
                continue;
            };
            let difference = first.filter(|_| nth > 0).and_then(|first| against(found, first));
            lines.push(format!(
                "{name:<28}{:>10}{:>10}{:>8}{:>20}{:>22}{:>20}",
                found.answers,
                found.shown,
                found.read,
                shown(found.click_through, false),
                shown(difference, true),
                shown(found.explored, false),
            ));
        }
    }
    lines.push("± is half of the 95 % interval".to_owned());
    lines.join("\n")
}

/// The difference of two independent estimates.
fn against(one: &VariantOutcome, other: &VariantOutcome) -> Option<Estimate> {
    let (one, other) = (one.click_through?, other.click_through?);
    Some(Estimate { value: one.value - other.value, margin: one.margin.hypot(other.margin) })
}

fn shown(estimate: Option<Estimate>, is_difference: bool) -> String {
    match estimate {
        None => "-".to_owned(),
        Some(Estimate { value, margin }) if is_difference => format!("{value:+.4} ±{margin:.4}"),
        Some(Estimate { value, margin }) => format!("{value:.4} ±{margin:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_variant_and_compares_with_the_first() {
        let text = r#"{"experiment":[{"name":"rank","variants":[
            {"name":"a","buckets":500,"method":"ranker"},
            {"name":"b","buckets":300,"method":"trend"},
            {"name":"c","buckets":200,"method":"latest"}]}],
            "outcomes":[
            {"experiment":"rank","variant":"a","answers":10,"shown":200,"read":20,
             "click_through":{"value":0.1,"margin":0.03},"explored":null},
            {"experiment":"rank","variant":"b","answers":5,"shown":100,"read":6,
             "click_through":{"value":0.06,"margin":0.04},
             "explored":{"value":0.01,"margin":0.002}}]}"#;
        let report: ExperimentReport = serde_json::from_str(text).unwrap();
        let shown = table(&report);
        for part in ["rank/a", "0.1000 ±0.0300", "-0.0400 ±0.0500", "0.0100 ±0.0020", "rank/c"] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ExperimentReport>(&json).unwrap(), report);
        let none = ExperimentReport { now: Experiments::default(), outcomes: Vec::new() };
        assert!(table(&none).contains("no experiments"));
    }
}
