//! Tokens: JWT, HS256 and nothing else.
//!
//! A token names a user and the generation of tokens it belongs to. Whether that is still the
//! user's generation is for the caller to see, who needs the viewer anyway. What was verified once
//! is kept in a bounded cache, for a verification costs a third of a read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::generations::Generations;
use crate::http::limits::TOKEN_CHARS_MAX;
use crate::ids::UserId;
use crate::seams::Clock;

/// How long a token lives unless told otherwise.
pub const TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Shortest secret of a key: as long as the hash, or the signature is weaker than it could be.
pub const SECRET_BYTES_MIN: usize = 32;
/// Verified tokens that are kept; about 100 B each.
const CACHED_TOKENS: usize = 16_384;

/// A key that signs tokens. Never shown.
pub struct SigningKey {
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// A secret that is too short to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signing key has at least {SECRET_BYTES_MIN} bytes")]
pub struct KeyTooShort;

impl SigningKey {
    /// The key of a random secret. Its name, which tokens show, is a piece of the secret's hash.
    ///
    /// # Errors
    /// A secret of less than [`SECRET_BYTES_MIN`] bytes.
    pub fn new(secret: &[u8]) -> Result<Self, KeyTooShort> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyTooShort);
        }
        let mut hash = Sha256::new();
        hash.update(b"quire token key name");
        hash.update(secret);
        let id = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let encoding = EncodingKey::from_secret(secret);
        Ok(Self { id, encoding, decoding: DecodingKey::from_secret(secret) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    r#gen: u32,
    iat: u64,
    exp: u64,
}

/// What a token says, once its signature and its time are found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer {
    /// Who.
    pub user: UserId,
    /// Valid only while the user has this generation of tokens.
    pub generation: u32,
    expires_s: u64,
}

/// A token that is forged, foreign, malformed or past its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct TokenInvalid;

/// Signs and verifies.
pub struct Tokens {
    current: SigningKey,
    previous: Vec<SigningKey>,
    life: Duration,
    clock: Clock,
    /// By the hash of the whole token: a look-up reads one place in memory, and no token is kept.
    verified: Mutex<Generations<TokenHash, Bearer>>,
}

/// The first half of its SHA-256: nobody finds another token with the hash of a good one.
type TokenHash = [u8; 16];

impl Tokens {
    /// Signs with `current`; accepts what `previous` keys signed, too.
    pub fn new(
        current: SigningKey,
        previous: Vec<SigningKey>,
        life: Duration,
        clock: Clock,
    ) -> Self {
        let verified = Mutex::new(Generations::new(CACHED_TOKENS));
        Self { current, previous, life, clock, verified }
    }

    /// A token for a user.
    pub fn sign(&self, user: UserId, generation: u32) -> String {
        let iat = self.now_s();
        let exp = iat.saturating_add(self.life.as_secs());
        let claims = Claims { sub: user.to_string(), r#gen: generation, iat, exp };
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.current.id.clone());
        jsonwebtoken::encode(&header, &claims, &self.current.encoding)
            .expect("a key for HS256 signs any claims")
    }

    /// Who bears this token.
    ///
    /// # Errors
    /// When it is not one of ours, or past its time.
    pub fn verify(&self, token: &str) -> Result<Bearer, TokenInvalid> {
        if token.len() > TOKEN_CHARS_MAX {
            return Err(TokenInvalid);
        }
        let hash = Sha256::digest(token.as_bytes());
        let (hash, _) = hash.split_first_chunk().expect("it has 32 bytes");
        let known = self.cache().get(hash);
        let bearer = match known {
            Some(bearer) => bearer,
            None => {
                let bearer = self.decode(token)?;
                self.cache().insert(*hash, bearer, 1);
                bearer
            }
        };
        match self.now_s() < bearer.expires_s {
            true => Ok(bearer),
            false => Err(TokenInvalid),
        }
    }

    fn decode(&self, token: &str) -> Result<Bearer, TokenInvalid> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenInvalid)?;
        let kid = header.kid.ok_or(TokenInvalid)?;
        let mut keys = std::iter::once(&self.current).chain(&self.previous);
        let key = keys.find(|key| key.id == kid).ok_or(TokenInvalid)?;
        let mut validation = Validation::new(Algorithm::HS256);
        // The time is compared here, by our clock, also for tokens from the cache.
        validation.validate_exp = false;
        validation.leeway = 0;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation);
        let claims = decoded.map_err(|_| TokenInvalid)?.claims;
        let user = claims.sub.parse().map_err(|_| TokenInvalid)?;
        Ok(Bearer { user, generation: claims.r#gen, expires_s: claims.exp })
    }

    fn now_s(&self) -> u64 {
        self.clock.now().0 / 1_000_000
    }

    /// The cache stays sound whoever panics while holding it: entries are only ever whole.
    fn cache(&self) -> MutexGuard<'_, Generations<TokenHash, Bearer>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::ids::Stamp;
    use proptest::prelude::*;
    use serde_json::json;

    const SECRET: [u8; 32] = [7; 32];
    const USER: UserId = UserId(0x1234_5678_9abc_def0);

    fn key(secret: [u8; 32]) -> SigningKey {
        SigningKey::new(&secret).unwrap()
    }

    fn tokens() -> (Tokens, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(1_700_000_000_000_000));
        let clock = Clock::from_fn({
            let now = now.clone();
            move || Stamp(now.load(Ordering::Relaxed))
        });
        (Tokens::new(key(SECRET), vec![key([8; 32])], TOKEN_LIFE, clock), now)
    }

    fn signed(algorithm: Algorithm, secret: &[u8], claims: &serde_json::Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = Some(key(SECRET).id);
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[test]
    fn a_token_names_its_user_and_generation() {
        let (tokens, _) = tokens();
        let token = tokens.sign(USER, 3);
        for _ in 0..2 {
            let bearer = tokens.verify(&token).unwrap();
            assert_eq!((bearer.user, bearer.generation), (USER, 3));
        }
    }

    #[test]
    fn a_token_ends_to_the_second_also_when_it_is_cached() {
        let (tokens, now) = tokens();
        let token = tokens.sign(USER, 0);
        assert!(tokens.verify(&token).is_ok());
        now.fetch_add(TOKEN_LIFE.as_micros() as u64 - 1, Ordering::Relaxed);
        assert!(tokens.verify(&token).is_ok());
        now.fetch_add(1, Ordering::Relaxed);
        assert_eq!(tokens.verify(&token), Err(TokenInvalid));
    }

    #[test]
    fn the_previous_key_is_accepted_and_a_foreign_one_is_not() {
        let (ours, _) = tokens();
        let by = |secret| Tokens::new(key(secret), vec![], TOKEN_LIFE, Clock::system());
        assert!(ours.verify(&by([8; 32]).sign(USER, 0)).is_ok());
        assert_eq!(ours.verify(&by([9; 32]).sign(USER, 0)), Err(TokenInvalid));
        assert!(matches!(SigningKey::new(&[1; 31]), Err(KeyTooShort)));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let (tokens, _) = tokens();
        let far = 99_999_999_999_u64;
        let claims = json!({"sub": USER.to_string(), "gen": 0, "iat": 0, "exp": far});
        assert!(tokens.verify(&signed(Algorithm::HS256, &SECRET, &claims)).is_ok());
        // Signed with another key under our key's name.
        assert!(tokens.verify(&signed(Algorithm::HS256, &[1; 32], &claims)).is_err());
        // Another algorithm, even with the right key.
        assert!(tokens.verify(&signed(Algorithm::HS384, &SECRET, &claims)).is_err());
        assert!(tokens.verify(&signed(Algorithm::HS512, &SECRET, &claims)).is_err());
        // No algorithm: {"alg":"none","kid":…} without signature.
        let good = tokens.sign(USER, 0);
        let payload = good.split('.').nth(1).unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0"] {
            assert!(tokens.verify(&format!("{header}.{payload}.")).is_err());
        }
        // Claims that are missing or of another type.
        for claims in [
            json!({"gen": 0, "iat": 0, "exp": far}),
            json!({"sub": "nobody", "gen": 0, "iat": 0, "exp": far}),
            json!({"sub": USER.to_string(), "iat": 0, "exp": far}),
            json!({"sub": USER.to_string(), "gen": 0, "iat": 0}),
            json!({"sub": USER.to_string(), "gen": -1, "iat": 0, "exp": far}),
        ] {
            assert!(tokens.verify(&signed(Algorithm::HS256, &SECRET, &claims)).is_err());
        }
        for bad in ["", ".", "..", "a.b.c", &"x".repeat(5000), &format!("{good}x")] {
            assert!(tokens.verify(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let (tokens, _) = tokens();
        let bearer = Bearer { user: USER, generation: 0, expires_s: 1 };
        let mut cache = tokens.cache();
        for n in 0..2 * CACHED_TOKENS as u128 {
            cache.insert(n.to_be_bytes(), bearer, 1);
            assert!(cache.get(&[0; 16]).is_some());
        }
        assert!(cache.len() <= CACHED_TOKENS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_token_is_read_without_panic(token in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.\\PC{0,8}") {
            let (tokens, _) = tokens();
            prop_assert_eq!(tokens.verify(&token), Err(TokenInvalid));
        }

        #[test]
        fn a_changed_token_is_refused(position in 0_usize..200, byte in b'0'..b'z') {
            let (tokens, _) = tokens();
            let good = tokens.sign(USER, 0);
            let mut changed = good.clone().into_bytes();
            let position = position % changed.len();
            changed[position] = byte;
            let changed = String::from_utf8(changed).unwrap();
            // The last character of a part has bits that mean nothing; strict decoding refuses them.
            prop_assert_eq!(tokens.verify(&changed).is_ok(), changed == good);
        }
    }
}
