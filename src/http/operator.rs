//! What the operator may do on the operations listener: import, export, make tokens.
//!
//! Who may read the data directory may do this, and nobody else: the credential is signed with a key
//! that is derived from the directory's signing key, so that a user's token is never one, nor this
//! one a user's token.

use std::sync::Arc;

use axum::Router as Routes;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::{get, post};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::actors::recommendation::owners::Rebuilt;
use crate::actors::router::Call;
use crate::actors::user::message::{Answer, Query as UserQuery};
use crate::error::ErrorCode;
use crate::http::conduit::render;
use crate::http::edge::Edge;
use crate::http::error::{Answered, Failure};
use crate::http::experiments::{self, Experiments};
use crate::http::exposures;
use crate::http::extract::wrong_answer;
use crate::http::limits::{Limits, TOKEN_CHARS_MAX};
use crate::http::query::Query;
use crate::http::{App, people};
use crate::ids::Stamp;
use crate::seams::Clock;
use crate::seams::{tasks, time};
use crate::transfer::chunk::{CHUNK_BYTES, CHUNK_RECORDS_MAX, Item};
use crate::transfer::engine::Engine;
use crate::transfer::export::{Export, PIECES_WAITING};
use crate::transfer::record::unhex;

/// How long a credential is valid: it is made for each request.
const CREDENTIAL_S: u64 = 60;
/// For whom it is made. Users' tokens are made for nobody in particular.
const AUDIENCE: &str = "operator";
/// Largest body of an import: a full chunk and one line of the largest size beyond it.
pub const IMPORT_BYTES_MAX: usize = CHUNK_BYTES + 3 * 1024 * 1024;
/// Time for one chunk: longer than the patience of the engine with a node that restarts.
const IMPORT_TIME: std::time::Duration = std::time::Duration::from_secs(150);

/// Signs and verifies credentials. Never shown.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: String,
    iat: u64,
    exp: u64,
}

impl OperatorKey {
    /// The key that belongs to a directory's signing key.
    pub fn of_secret(secret: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"quire operator credential\0");
        hash.update(secret);
        Self(hash.finalize().into())
    }

    /// A credential for a request that is made now.
    pub fn sign(&self, now: Stamp) -> String {
        let iat = now.0 / 1_000_000;
        let claims = Claims { aud: AUDIENCE.to_owned(), iat, exp: iat + CREDENTIAL_S };
        let key = EncodingKey::from_secret(&self.0);
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
            .expect("a key for HS256 signs any claims")
    }

    /// Whether this is a credential of this directory whose time is not over.
    pub fn verify(&self, credential: &str, now: Stamp) -> bool {
        if credential.len() > TOKEN_CHARS_MAX {
            return false;
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud", "exp"]);
        // Compared here, by our clock.
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(&self.0);
        let decoded = jsonwebtoken::decode::<Claims>(credential, &key, &validation);
        decoded.is_ok_and(|decoded| now.0 / 1_000_000 < decoded.claims.exp)
    }
}

struct Operator {
    app: App,
    engine: Engine,
    key: OperatorKey,
    clock: Clock,
}

/// The operator's part of the operations API: to be merged with the rest of it.
pub fn routes(app: &App, key: OperatorKey, limits: &Limits) -> Routes {
    let limits = Limits { request_time: IMPORT_TIME, ..limits.clone() };
    let edge = Edge::new(&limits, app.metrics.clone());
    let operator = Arc::new(Operator {
        engine: Engine::new(app.users.clone(), app.posts.clone(), app.seams.clone(), 1),
        clock: app.seams.clock.clone(),
        app: app.clone(),
        key,
    });
    Routes::new()
        .route("/import", post(import).layer(edge.route("/import")))
        .route("/export", post(export).layer(edge.route("/export")))
        .route(
            "/experiments",
            get(experiments).post(set_experiments).layer(edge.route("/experiments")),
        )
        .route("/exposures", get(exposures).layer(edge.route("/exposures")))
        .route("/token", post(token).layer(edge.route("/token")))
        .route(
            "/rebuild/recommendation",
            post(rebuild).layer(edge.route("/rebuild/recommendation")),
        )
        .with_state(operator)
}

impl Operator {
    fn check(&self, headers: &HeaderMap) -> Answered<()> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let credential = value.and_then(|value| value.strip_prefix("Bearer "));
        match credential.is_some_and(|text| self.key.verify(text, self.clock.now())) {
            true => Ok(()),
            false => Err(Failure::new(ErrorCode::Unauthenticated)),
        }
    }

    async fn body(&self, request: Request, bytes_max: usize) -> Answered<Bytes> {
        let read = axum::body::to_bytes(request.into_body(), bytes_max);
        match time::timeout(self.app.limits.body_time, read).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(Failure::new(ErrorCode::TooLarge)),
            Err(_elapsed) => Err(Failure::new(ErrorCode::DeadlineExceeded)),
        }
    }
}

/// Applies a chunk: one JSON item a line. Answers what became of it.
async fn import(
    State(operator): State<Arc<Operator>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answered {
    operator.check(request.headers())?;
    let digest = query.as_deref().and_then(|query| query.strip_prefix("file=")).and_then(unhex);
    let digest: [u8; 32] =
        digest.ok_or_else(|| Failure::invalid("file", "must be the SHA-256 of the file"))?;
    let body = operator.body(request, IMPORT_BYTES_MAX).await?;
    let items = parse_items(&body)?;
    let applied = operator.engine.apply(&digest, &items).await.map_err(|halted| {
        tracing::warn!(reason = %halted, "an import was halted");
        Failure::new(ErrorCode::Unavailable)
    })?;
    Ok(render::json(serde_json::to_string(&applied).expect("it is plain data")))
}

fn parse_items(body: &[u8]) -> Answered<Vec<Item>> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut items = Vec::new();
    for line in lines {
        if items.len() == CHUNK_RECORDS_MAX {
            return Err(Failure::new(ErrorCode::TooLarge));
        }
        let item =
            serde_json::from_slice(line).map_err(|error| Failure::malformed(error.to_string()))?;
        items.push(item);
    }
    Ok(items)
}

/// Sends everything as NDJSON. A response that is cut short has no last chunk, which clients see.
async fn export(
    State(operator): State<Arc<Operator>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answered {
    operator.check(request.headers())?;
    let export = Export {
        users: operator.app.users.clone(),
        posts: operator.app.posts.clone(),
        with_credentials: query.as_deref() == Some("credentials=true"),
        began: operator.clock.now(),
    };
    let (pieces, received) = mpsc::channel(PIECES_WAITING);
    let exporting = tasks::spawn(async move { export.run(pieces).await });
    // Ends with the outcome of the export, behind the last piece.
    let stream = futures_util::stream::unfold(
        (received, Some(exporting)),
        |(mut received, exporting)| async move {
            if let Some(piece) = received.recv().await {
                return Some((Ok(Bytes::from(piece)), (received, exporting)));
            }
            let error = match exporting?.await {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => std::io::Error::other(error),
                Err(error) => std::io::Error::other(error),
            };
            tracing::warn!(%error, "an export was cut short");
            Some((Err(error), (received, None)))
        },
    );
    Ok(ndjson(Body::from_stream(stream)))
}

/// Has the recommendation service read everything anew. Answers lines of JSON while it goes on:
/// [`RebuildLine`]. It goes on to its end when nobody listens any more.
async fn rebuild(State(operator): State<Arc<Operator>>, request: Request) -> Answered {
    operator.check(request.headers())?;
    let owners = operator.app.owners();
    let (lines, received) = mpsc::channel::<RebuildLine>(PIECES_WAITING);
    tasks::spawn(async move {
        let told = lines.clone();
        // A line that nobody has read yet is not worth waiting for.
        let tell = move |facts| drop(told.try_send(RebuildLine::Read { facts }));
        let line = match owners.rebuild(tell).await {
            Ok(Rebuilt { facts, repaired }) => RebuildLine::Done { facts, repaired },
            Err(error) => {
                tracing::warn!(%error, "a rebuild of the recommendations has ended early");
                RebuildLine::Failed { reason: error.to_string() }
            }
        };
        let _ = lines.send(line).await;
    });
    let stream = futures_util::stream::unfold(received, |mut received| async move {
        let mut line = serde_json::to_vec(&received.recv().await?).expect("it is plain data");
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), received))
    });
    Ok(ndjson(Body::from_stream(stream)))
}

/// Lines of JSON.
fn ndjson(lines: Body) -> Response {
    let mut response = Response::new(lines);
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// How far a rebuild is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildLine {
    /// So many facts were read.
    Read {
        /// So far.
        facts: u64,
    },
    /// The new copy serves.
    Done {
        /// Facts that were read.
        facts: u64,
        /// Posts in which it still differed, and was repaired.
        repaired: u64,
    },
    /// It did not come to its end; the old copy goes on serving.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Which experiments there are, and what came of them.
async fn experiments(State(operator): State<Arc<Operator>>, headers: HeaderMap) -> Answered {
    operator.check(&headers)?;
    let report = experiments::report(&operator.app).await?;
    Ok(render::json(serde_json::to_string(&report).expect("it is plain data")))
}

/// Other experiments from now on.
async fn set_experiments(State(operator): State<Arc<Operator>>, request: Request) -> Answered {
    operator.check(request.headers())?;
    let body = operator.body(request, crate::http::limits::BODY_BYTES_MAX).await?;
    let wanted: Experiments =
        serde_json::from_slice(&body).map_err(|error| Failure::malformed(error.to_string()))?;
    experiments::set(&operator.app, wanted).await?;
    Ok(render::json("{}".to_owned()))
}

/// What was shown lately, from a number on: lines of JSON.
async fn exposures(State(operator): State<Arc<Operator>>, request: Request) -> Answered {
    operator.check(request.headers())?;
    let from = Query::new(request.uri().query()).get("from")?.map_or(Ok(0), |from| from.parse());
    let from = from.map_err(|_| Failure::invalid("from", "is a number"))?;
    let lines = exposures::lines(&operator.app, from).await?;
    Ok(ndjson(Body::from(lines)))
}

/// Whose token is wanted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Name of the user.
    pub user: String,
}

/// A token, as it is answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The token.
    pub token: String,
}

async fn token(State(operator): State<Arc<Operator>>, request: Request) -> Answered {
    operator.check(request.headers())?;
    let body = operator.body(request, crate::http::limits::BODY_BYTES_MAX).await?;
    let wanted: TokenRequest =
        serde_json::from_slice(&body).map_err(|error| Failure::malformed(error.to_string()))?;
    let token = token_of(&operator.app, &wanted.user).await?;
    let token = token.ok_or_else(|| Failure::invalid("user", "is not known"))?;
    Ok(render::json(serde_json::to_string(&TokenAnswer { token }).expect("it is plain data")))
}

/// A token for the user with this name, if there is one.
///
/// # Errors
/// When a shard has no answer.
pub async fn token_of(app: &App, name: &str) -> Answered<Option<String>> {
    let Some((user, _)) = people::by_name(app, name).await? else { return Ok(None) };
    match app.users.query(Call::new(), user.bucket(), UserQuery::GetViewer { user }).await? {
        Answer::Viewer(viewer) => Ok(Some(app.tokens.sign(user, viewer.token_generation))),
        _ => Err(wrong_answer()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tokens::{SigningKey, TOKEN_LIFE, Tokens};
    use crate::ids::UserId;
    use proptest::prelude::*;

    const SECRET: [u8; 32] = [7; 32];
    const NOW: Stamp = Stamp(1_700_000_000_000_000);

    #[test]
    fn a_credential_is_good_for_a_minute_and_for_its_directory() {
        let key = OperatorKey::of_secret(&SECRET);
        let credential = key.sign(NOW);
        assert!(key.verify(&credential, NOW));
        assert!(key.verify(&credential, NOW.plus_ms(59_999)));
        assert!(!key.verify(&credential, NOW.plus_ms(60_000)));
        assert!(!OperatorKey::of_secret(&[8; 32]).verify(&credential, NOW));
        assert!(!key.verify(&"x".repeat(5000), NOW));
    }

    #[test]
    fn a_users_token_is_no_credential_and_a_credential_no_users_token() {
        let clock = Clock::from_fn(|| NOW);
        let tokens = Tokens::new(SigningKey::new(&SECRET).unwrap(), vec![], TOKEN_LIFE, clock);
        let key = OperatorKey::of_secret(&SECRET);
        assert!(!key.verify(&tokens.sign(UserId(1), 1), NOW));
        assert!(tokens.verify(&key.sign(NOW)).is_err());
        // Not even one that is signed with the right key, but for somebody else or nobody.
        for claims in [
            serde_json::json!({"iat": 0, "exp": 99_999_999_999_u64}),
            serde_json::json!({"aud": "user", "iat": 0, "exp": 99_999_999_999_u64}),
            serde_json::json!({"aud": "operator", "iat": 0}),
        ] {
            let key_bytes = EncodingKey::from_secret(&key.0);
            let header = Header::new(Algorithm::HS256);
            let forged = jsonwebtoken::encode(&header, &claims, &key_bytes).unwrap();
            assert!(!key.verify(&forged, NOW), "{claims}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_body_is_read_without_panic(body: Vec<u8>, credential: String) {
            let _ = parse_items(&body);
            prop_assert!(!OperatorKey::of_secret(&SECRET).verify(&credential, NOW));
        }
    }
}
