//! `quire rec exposures`: what was shown to whom, for whoever wants to judge a ranking by it.

use clap::Args;

use crate::cli::data::Data;
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::options::DataOptions;
use crate::cli::output::say;
use crate::http::exposures;

/// Options of `quire rec exposures`.
#[derive(Debug, Args)]
pub(super) struct Exposures {
    /// Only from this number on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    #[command(flatten)]
    data: DataOptions,
}

impl Exposures {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.data.load()?;
        logging::start_quiet(&config);
        let data = Data::open_existing(&config).await?;
        let told = tell(&data, self.from).await;
        data.close().await?;
        told
    }
}

async fn tell(data: &Data, mut from: u64) -> Result<(), Failure> {
    loop {
        let lines = match data {
            Data::Stopped(node) => exposures::lines(&node.app, from)
                .await
                .map_err(|failure| super::failed(&failure))?,
            Data::Running(client) => {
                let body = client.get(&format!("/exposures?from={from}")).await?;
                String::from_utf8(body.into()).map_err(|error| client.failed(&error))?
            }
        };
        let Some(next) = exposures::next(&lines) else { return Ok(()) };
        say(lines.trim_end());
        from = next;
    }
}
