//! `quire token`: a token of a user, for scripts.

use clap::Args;

use crate::cli::data::Data;
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::options::DataOptions;
use crate::cli::output::say;
use crate::http::operator::{TokenAnswer, TokenRequest, token_of};

/// Options of `quire token`.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Name of the user
    #[arg(long, value_name = "NAME")]
    user: String,
    #[command(flatten)]
    data: DataOptions,
}

impl Token {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.data.load()?;
        logging::start_quiet(&config);
        let data = Data::open_existing(&config).await?;
        let token = tokio::select! {
            biased;
            failure = data.ended() => return Err(failure),
            token = token(&data, self.user) => token,
        };
        data.close().await?;
        say(&token?);
        Ok(())
    }
}

async fn token(data: &Data, user: String) -> Result<String, Failure> {
    match data {
        Data::Stopped(node) => match token_of(&node.app, &user).await {
            Ok(Some(token)) => Ok(token),
            Ok(None) => Err(Failure::runtime(format!("there is no user `{user}`"))),
            Err(_) => Err(Failure::runtime("the data gave no answer: see the log")),
        },
        Data::Running(client) => {
            let body = serde_json::to_vec(&TokenRequest { user }).expect("it is plain data");
            let answer = client.post("/token", body.into()).await?;
            let answer: TokenAnswer =
                serde_json::from_slice(&answer).map_err(|error| client.failed(&error))?;
            Ok(answer.token)
        }
    }
}
