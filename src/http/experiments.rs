//! The operator's view of experiments: which there are, what came of them, and others instead.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::message::{Answer, Command, Query};
use crate::actors::recommendation::split::{Experiment, Splits, VariantOutcome};
use crate::actors::router::Call;
use crate::http::App;
use crate::http::error::{Answered, Failure};
use crate::http::extract::wrong_answer;

/// Experiments, as a file names them and the operations listener takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiments {
    /// In the order in which readers are looked for in them; none ends them all.
    #[serde(default, rename = "experiment")]
    pub experiments: Vec<Experiment>,
}

/// What came of the experiments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentReport {
    /// All of them.
    #[serde(flatten)]
    pub now: Experiments,
    /// By name.
    pub outcomes: Vec<VariantOutcome>,
}

impl Experiments {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn of_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let read = text.and_then(|text| Self::of_toml(&text));
        read.map_err(|why| format!("`{}`: {why}", path.display()))
    }

    /// Reads what such a file says.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn of_toml(text: &str) -> Result<Self, String> {
        let read: Self =
            toml::from_str(text).map_err(|error| error.message().replace('\n', " "))?;
        Splits::new(read.experiments.clone()).map_err(|error| error.to_string())?;
        Ok(read)
    }

    /// The same as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("experiments are representable")
    }
}

/// What there is, and what came of it.
///
/// # Errors
/// When the recommendation service has no answer.
pub async fn report(app: &App) -> Answered<ExperimentReport> {
    match app.recommendations.query_shard(Call::new(), 0, Query::GetExperiments).await? {
        Answer::Experiments { experiments, outcomes } => {
            Ok(ExperimentReport { now: Experiments { experiments }, outcomes })
        }
        _ => Err(wrong_answer()),
    }
}

/// These from now on.
///
/// # Errors
/// When they make no sense, or the recommendation service does not take them.
pub async fn set(app: &App, wanted: Experiments) -> Answered<()> {
    let Experiments { experiments } = wanted;
    if let Err(error) = Splits::new(experiments.clone()) {
        return Err(Failure::invalid("experiment", error.to_string()));
    }
    app.recommendations.command(Call::new(), Command::SetExperiments { experiments }).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[experiment]]
        name = "ranking"
        [[experiment.variants]]
        name = "ranker"
        buckets = 500
        method = "ranker"
        explore = 2
        [[experiment.variants]]
        name = "trend"
        buckets = 100
        method = "trend"
        is_diverse = false
    "#;

    #[test]
    fn a_file_says_what_it_means_and_what_is_wrong_with_it() {
        let read = Experiments::of_toml(FILE).unwrap();
        assert_eq!(read.experiments[0].variants[1].buckets, 100);
        assert!(read.experiments[0].variants[0].is_diverse);
        assert_eq!(Experiments::of_toml(&read.to_toml()), Ok(read));
        assert_eq!(Experiments::of_toml(""), Ok(Experiments::default()));
        for (wrong, named) in [
            (FILE.replace("buckets = 100", "buckets = 501"), "1001 buckets"),
            (FILE.replace("\"trend\"\n        is", "\"other\"\n        is"), "other"),
            (FILE.replace("explore", "exploit"), "exploit"),
            ("experiment = 3".to_owned(), "expected"),
        ] {
            let why = Experiments::of_toml(&wrong).unwrap_err();
            assert!(why.contains(named) && !why.contains('\n'), "{named}: {why}");
        }
    }
}
