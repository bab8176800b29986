//! Bodies of responses that are sent from several places in memory, without being copied into one.

use std::array::IntoIter;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::http::serve::MIN_BUFFER_BYTES;

/// From here on pieces are copied into one: what hyper cannot hold back beside a head, it would send in two
/// packets.
const APART_BYTES_MAX: usize = 32 * 1024;
const _: () = assert!(2 * APART_BYTES_MAX <= MIN_BUFFER_BYTES);
/// Pieces of a response.
const PIECES: usize = 3;

/// The body that these pieces make, one after the other.
pub fn in_pieces(pieces: [Bytes; PIECES]) -> Body {
    match pieces.iter().map(Bytes::len).sum::<usize>() {
        ..APART_BYTES_MAX => Body::new(Pieces(pieces.into_iter())),
        _ => pieces.concat().into(),
    }
}

struct Pieces(IntoIter<Bytes, PIECES>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_slice().iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn pieces_come_one_after_the_other() {
        let long = "x".repeat(APART_BYTES_MAX);
        for pieces in [["a", "b", "cd"], ["", "", ""], ["a", &long, "b"]] {
            let whole = pieces.concat();
            let mut body = in_pieces(pieces.map(|piece| Bytes::from(piece.to_owned())));
            let mut sent = Vec::new();
            while let Some(frame) = body.frame().now_or_never().expect("it is all there") {
                let left = body.size_hint().exact().expect("its length is known") as usize;
                sent.extend(frame.unwrap().into_data().unwrap());
                assert_eq!(left, whole.len() - sent.len());
            }
            assert!(body.is_end_stream());
            assert_eq!(sent, whole.as_bytes());
        }
    }
}
