//! Reading of request bodies, with limits on bytes and time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::{Refusal, RefusalKind};

/// The budget of bytes for all requests in flight.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// Permits of one KiB each.
    free: Arc<Semaphore>,
}

/// A body, which counts toward the budget until it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    pub bytes: Vec<u8>,
    permits: Option<OwnedSemaphorePermit>,
}

impl Bytes {
    /// Returns a budget of `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most.div_ceil(1024))) }
    }

    /// Reads a body of at most `most` bytes within `time`.
    ///
    /// # Errors
    /// Fails if the body is too large, takes too long or breaks off, or if the budget is exhausted.
    pub async fn read(&self, body: Body, most: usize, time: Duration) -> Result<Held, Refusal> {
        match timeout(time, self.frames(body, most)).await {
            Ok(read) => read,
            Err(_) => {
                let message = format!("the body did not arrive within {} seconds", time.as_secs_f64());
                Err(Refusal::new(RefusalKind::Slow, message))
            }
        }
    }

    async fn frames(&self, mut body: Body, most: usize) -> Result<Held, Refusal> {
        let mut held = Held::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Refusal::new(RefusalKind::Malformed, format!("the body breaks off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if held.bytes.len() + data.len() > most {
                let message = format!("the body has more than {most} bytes, the maximum (--max-body-bytes)");
                return Err(Refusal::new(RefusalKind::TooLarge, message));
            }
            let more = (held.bytes.len() + data.len()).div_ceil(1024) - held.bytes.len().div_ceil(1024);
            let permits =
                Arc::clone(&self.free).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX));
            let permits = permits.map_err(|_| {
                Refusal::new(RefusalKind::Overloaded, "the waiting requests hold too many bytes; retry later")
            })?;
            match &mut held.permits {
                Some(all) => all.merge(permits),
                None => held.permits = Some(permits),
            }
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }
}
