//! Load: a closed loop, in which each connection sends when it was answered, and an open loop, in which
//! requests are due at a fixed rate, whether or not the ones before them are answered.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    Result, clock,
    http::{Answer, Connection},
};

pub struct Request {
    pub path: String,
    pub bearer: Option<Arc<str>>,
    pub body: Bytes,
}

/// What is asked, request by request.
pub trait Work: Send + Sync + 'static {
    fn request(&self, index: usize) -> Request;

    /// Judges an answer; an error ends the load.
    fn answered(&self, _index: usize, answer: &Answer) -> Result<()> {
        if answer.status.is_success() {
            return Ok(());
        }
        Err(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)).into())
    }
}

#[derive(Clone, Copy)]
pub enum Until {
    Requests(usize),
    Passed(Duration),
}

/// What a load came to.
pub struct Load {
    /// When the first request was sent, in nanoseconds since 1970.
    pub began_at: u64,
    pub seconds: f64,
    /// Microseconds.
    pub latency: Histogram<u64>,
    /// Why it broke off, if it did.
    pub broken: Option<String>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
        let answered = self.latency.len() as f64;
        answered / self.seconds
    }

    pub fn milliseconds(&self, quantile: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one answer")]
        let micros = self.latency.value_at_quantile(quantile) as f64;
        micros / 1000.0
    }

    /// The load, or why it broke off.
    pub fn whole(self) -> Result<Self> {
        match self.broken {
            Some(why) => Err(why.into()),
            None => Ok(self),
        }
    }
}

/// The longest time that is told apart from a longer one, in microseconds.
const LONGEST: u64 = 600_000_000;

/// An empty histogram of microseconds with three digits.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// So many connections that are never idle.
pub async fn closed(to: SocketAddr, connections: usize, until: Until, work: Arc<impl Work>) -> Result<Load> {
    let next = Arc::new(AtomicUsize::default());
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(to).await?);
    }
    let (began, began_at) = (clock::now(), clock::unix_nanos());
    let mut callers = JoinSet::new();
    for mut connection in open {
        let (next, work) = (next.clone(), work.clone());
        callers.spawn(async move {
            let mut latency = histogram()?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Requests(most) => index >= most,
                    Until::Passed(span) => began.elapsed() >= span,
                };
                if over {
                    return Ok((latency, None));
                }
                let sent = clock::now();
                match call(&mut connection, &*work, index).await {
                    Ok(()) => latency.saturating_record(micros(sent.elapsed())),
                    Err(error) => return Ok((latency, Some(error.to_string()))),
                }
            }
        });
    }
    gather(callers, began, began_at).await
}

/// So many requests a second for so long, over as many connections as it takes up to a limit. A latency
/// counts from when its request was due, so a stall is felt by all that were due in it.
pub async fn open(to: SocketAddr, connections: usize, rate: f64, span: Duration, work: Arc<impl Work>) -> Result<Load> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(to).await?);
    }
    let (began, began_at) = (clock::now(), clock::unix_nanos());
    let due = Arc::new(Mutex::new(dispatch(began, rate, span)));
    let mut callers = JoinSet::new();
    for mut connection in open {
        let (due, work) = (due.clone(), work.clone());
        callers.spawn(async move {
            let mut latency = histogram()?;
            loop {
                let Some((index, due_at)) = due.lock().await.recv().await else { return Ok((latency, None)) };
                match call(&mut connection, &*work, index).await {
                    Ok(()) => latency.saturating_record(micros(due_at.elapsed())),
                    Err(error) => return Ok((latency, Some(error.to_string()))),
                }
            }
        });
    }
    gather(callers, began, began_at).await
}

/// Hands out each request when it is due. A thread of its own, because the runtime's timers are as coarse
/// as the latencies.
fn dispatch(began: Instant, rate: f64, span: Duration) -> mpsc::UnboundedReceiver<(usize, Instant)> {
    let (hand_out, due) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for (index, number) in (0..u32::MAX).enumerate() {
            let after = Duration::from_secs_f64(f64::from(number) / rate);
            if after >= span {
                return;
            }
            thread::sleep(after.saturating_sub(began.elapsed()));
            if hand_out.send((index, began + after)).is_err() {
                return;
            }
        }
    });
    due
}

async fn call(connection: &mut Connection, work: &impl Work, index: usize) -> Result<()> {
    let request = work.request(index);
    let answer = connection.post(&request.path, request.bearer.as_deref(), request.body).await?;
    work.answered(index, &answer)
}

type Caller = Result<(Histogram<u64>, Option<String>)>;

async fn gather(mut callers: JoinSet<Caller>, began: Instant, began_at: u64) -> Result<Load> {
    let mut load = Load { began_at, seconds: 0.0, latency: histogram()?, broken: None };
    while let Some(caller) = callers.join_next().await {
        let (latency, broken) = caller??;
        load.latency.add(latency)?;
        load.broken = load.broken.or(broken);
    }
    load.seconds = began.elapsed().as_secs_f64();
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::{Load, histogram};

    #[test]
    fn latencies_are_told_apart() {
        let mut latency = histogram().expect("a histogram");
        for micros in [100, 200, 5_000, 2_000_000] {
            latency.saturating_record(micros);
        }
        let load = Load { began_at: 0, seconds: 2.0, latency, broken: None };
        assert!((load.per_second() - 2.0).abs() < 1e-9);
        assert!((load.milliseconds(0.5) - 0.2).abs() < 0.001);
        assert!((load.milliseconds(1.0) - 2000.0).abs() < 2.0);
    }
}
