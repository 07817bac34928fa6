//! The caller of a tool, and how to reach it while the answer is being made.

use std::sync::{Arc, Mutex, PoisonError};

use farwire_protocol::failure::Failure;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::verbs::observer::Observer;

/// A picture that a model looks at.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its media type, such as `image/png`.
    pub kind: &'static str,
}

/// The caller of a tool.
#[derive(Debug)]
pub struct Caller {
    /// Cancelled when the caller is no longer interested.
    pub cancelled: CancellationToken,
    /// Where progress goes, if anybody wants it.
    pub progress: Option<mpsc::Sender<(u64, String)>>,
    /// The picture that goes with the answer, if one does.
    pub picture: Arc<Mutex<Option<Picture>>>,
}

impl Caller {
    /// Runs a future until the caller cancels; then it fails with this text.
    pub async fn unless_cancelled<T>(
        &self,
        words: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let observer: &dyn Observer = self;
        observer.unless_cancelled(words, work).await
    }

    /// Adds a picture of this kind to the answer.
    pub fn show(&self, bytes: Vec<u8>, kind: &'static str) {
        let picture = Picture { bytes, kind };
        *self.picture.lock().unwrap_or_else(PoisonError::into_inner) = Some(picture);
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::failure::Kind;

    use super::*;

    #[tokio::test]
    async fn a_call_ends_when_it_is_cancelled_and_says_what_it_says_itself_if_it_does() {
        let cancelled = CancellationToken::new();
        let caller =
            Caller { cancelled: cancelled.clone(), progress: None, picture: Arc::default() };
        let itself = async {
            cancelled.cancelled().await;
            Err::<(), _>(Failure::new(Kind::Cancelled, "by itself"))
        };
        let stuck = caller.unless_cancelled("ended", std::future::pending::<Result<(), Failure>>());
        let itself = caller.unless_cancelled("ended", itself);
        let (stuck, itself, ()) = tokio::join!(stuck, itself, async { cancelled.cancel() });
        assert_eq!(stuck.unwrap_err().message, "ended");
        assert_eq!(itself.unwrap_err().message, "by itself");
    }
}
