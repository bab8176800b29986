//! Passwords: argon2id in a small pool. A hash takes tens of milliseconds and 19 MiB on purpose, so
//! the number that run at a time is bounded, and so is the queue before them.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ErrorCode;
use crate::http::error::{Answered, Failure};
use crate::seams::{Random, tasks, time};

/// Memory of our own hashes, in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes of our own hashes.
const PASSES: u32 = 2;
/// Most memory of a hash that is verified, in KiB: an imported hash must not be able to stop a node.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Most passes of a hash that is verified.
const PASSES_MAX: u32 = 10;
/// Most lanes of a hash that is verified.
const LANES_MAX: u32 = 8;
/// Longest wait for a turn; the deadline of a client that signs in is not much longer.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// Hashes and verifies passwords, a few at a time. Cheap to clone.
#[derive(Clone)]
pub struct PasswordPool {
    /// Those that run and those that wait.
    places: Arc<Semaphore>,
    /// Those that run.
    turns: Arc<Semaphore>,
    /// A hash of nothing anybody knows, for users that do not exist.
    nobody: Arc<str>,
    /// Where salts come from.
    random: Random,
}

/// What makes equal passwords differ in their hashes; as long as the standard recommends.
type Salt = [u8; 16];

/// Why the hash of an import is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashRefused {
    /// Not a PHC string with salt and hash.
    #[error("not a PHC string")]
    Malformed,
    /// Another algorithm.
    #[error("only argon2id is accepted")]
    Algorithm,
    /// Verifying it would cost too much.
    #[error("more than 256 MiB, 10 passes or 8 lanes")]
    TooCostly,
}

/// Whether a hash can be verified at a cost that is bounded.
///
/// # Errors
/// Why it is refused.
pub fn check_hash_parameters(phc: &str) -> Result<(), HashRefused> {
    let hash = PasswordHash::new(phc).map_err(|_| HashRefused::Malformed)?;
    if hash.algorithm != argon2::ARGON2ID_IDENT {
        return Err(HashRefused::Algorithm);
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(HashRefused::Malformed);
    }
    let params = Params::try_from(&hash).map_err(|_| HashRefused::Malformed)?;
    let is_bounded = params.m_cost() <= MEMORY_KIB_MAX
        && params.t_cost() <= PASSES_MAX
        && params.p_cost() <= LANES_MAX;
    if is_bounded { Ok(()) } else { Err(HashRefused::TooCostly) }
}

impl PasswordPool {
    /// A pool of `threads` with a queue of `waiting`.
    pub fn new(threads: usize, waiting: usize, random: Random) -> Self {
        Self {
            places: Arc::new(Semaphore::new(threads + waiting)),
            turns: Arc::new(Semaphore::new(threads)),
            nobody: hash_of_nobody(&random).into(),
            random,
        }
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full.
    pub async fn hash(&self, password: String) -> Answered<String> {
        let salt = self.random.any();
        let hashed = self.run(move || hash_now(password.as_bytes(), salt)).await?;
        hashed.ok_or_else(|| Failure::internal("a password could not be hashed"))
    }

    /// Whether the password is the one of this hash. Without a hash (no such user, or none who can
    /// sign in) it takes the same time and is false.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full.
    pub async fn verify(&self, password: String, phc: Option<String>) -> Answered<bool> {
        let exists = phc.is_some();
        let phc = phc.unwrap_or_else(|| self.nobody.to_string());
        let matches = self.run(move || verify_now(password.as_bytes(), &phc)).await?;
        Ok(matches && exists)
    }

    /// Runs on a thread of its own when it is its turn. The permits go with the work: a client that
    /// goes away does not make room for more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Answered<T> {
        let overloaded = || Failure::new(ErrorCode::Overloaded);
        let place = self.places.clone().try_acquire_owned().map_err(|_| overloaded())?;
        let turn = time::timeout(TURN_WAIT, self.turns.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or_else(overloaded)?;
        let permits: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (place, turn);
        let done = tasks::blocking(move || {
            let result = work();
            drop(permits);
            result
        });
        done.await.map_err(|_| Failure::internal("a password could not be worked on"))
    }
}

fn argon2id() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &[u8], salt: Salt) -> Option<String> {
    argon2id()?.hash_password_with_salt(password, &salt).ok().map(|hash| hash.to_string())
}

/// A hash that no password has, for nobody has computed it, and that takes as long to compare with
/// as any other of ours.
fn hash_of_nobody(random: &Random) -> String {
    let digits = |count: usize| -> String {
        const DIGITS: &[u8; 16] = b"ABCDEFGHIJKLMNOP";
        let digit = || DIGITS[usize::from(random.any::<u8>() & 15)];
        (0..count).map(|_| char::from(digit())).collect()
    };
    // Base64 of 16 and 32 bytes; the last digit stands for less than six bits, and `A` for none.
    let (salt, hash) = (digits(21), digits(42));
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${salt}A${hash}A")
}

fn verify_now(password: &[u8], phc: &str) -> bool {
    if check_hash_parameters(phc).is_err() {
        return false;
    }
    let Ok(hash) = PasswordHash::new(phc) else { return false };
    Argon2::default().verify_password(password, &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_is_one_of_ours() {
        let random = Random::system();
        let hash = hash_of_nobody(&random);
        assert_eq!(check_hash_parameters(&hash), Ok(()));
        let ours = PasswordHash::new(&hash).unwrap();
        let real = hash_now(b"x", random.any()).unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(Params::try_from(&ours).unwrap(), Params::try_from(&real).unwrap());
        assert!(!verify_now(b"x", &hash));
        assert_ne!(hash, hash_of_nobody(&random));
    }

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let pool = PasswordPool::new(2, 8, Random::system());
        let hash = pool.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(check_hash_parameters(&hash), Ok(()));
        assert!(pool.verify("correct horse".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!pool.verify("correct house".to_owned(), Some(hash)).await.unwrap());
        assert!(!pool.verify("correct horse".to_owned(), None).await.unwrap());
        assert!(!pool.verify("x".to_owned(), Some("nonsense".to_owned())).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_is_refused_at_once() {
        let pool = PasswordPool::new(1, 1, Random::system());
        let work = |n: u32| pool.hash(format!("password {n}"));
        let (first, second, third) = tokio::join!(work(1), work(2), work(3));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(third.unwrap_err().code(), ErrorCode::Overloaded);
        assert!(work(4).await.is_ok());
    }

    #[test]
    fn extreme_hashes_of_an_import_are_refused() {
        let with =
            |head: &str| format!("{head}$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNo");
        for (head, expected) in [
            ("$argon2id$v=19$m=65536,t=3,p=4", Ok(())),
            ("$argon2id$v=19$m=262145,t=3,p=1", Err(HashRefused::TooCostly)),
            ("$argon2id$v=19$m=19456,t=11,p=1", Err(HashRefused::TooCostly)),
            ("$argon2id$v=19$m=19456,t=2,p=9", Err(HashRefused::TooCostly)),
            ("$argon2i$v=19$m=19456,t=2,p=1", Err(HashRefused::Algorithm)),
            ("$argon2d$v=19$m=19456,t=2,p=1", Err(HashRefused::Algorithm)),
            ("$pbkdf2-sha256$i=600000", Err(HashRefused::Algorithm)),
        ] {
            assert_eq!(check_hash_parameters(&with(head)), expected, "{head}");
        }
        for bad in ["", "$2b$12$abc", "hunter2", "$argon2id$v=19$m=19456,t=2,p=1"] {
            assert_eq!(check_hash_parameters(bad), Err(HashRefused::Malformed), "{bad}");
        }
    }
}
