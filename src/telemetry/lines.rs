//! Lines on their way to standard error. What is logged within a few milliseconds is written at once: a call into the
//! kernel for each line would be a twentieth of what a message costs.
//!
//! ```text
//! line ─▶ buffer ─▶ writer thread: a moment for more ─▶ standard error
//! ```
//!
//! Lines wait for room while standard error takes none, and are written to the last when the process ends, unless it
//! is killed. (tracing-appender wakes its thread for each line that meets an empty queue, and waits a second at most for
//! the last ones.)

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that wait at most.
const MOST: usize = 1 << 20;

/// Where lines go.
#[derive(Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// There is something to write.
    filled: Condvar,
    /// What was to be written is.
    emptied: Condvar,
}

#[derive(Default)]
struct Buffer {
    waiting: Vec<u8>,
    is_writing: bool,
}

impl Lines {
    /// Lines that a thread of their own writes from now on.
    pub fn to(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self::default();
        let shared = lines.0.clone();
        thread::Builder::new().name("log".into()).spawn(move || shared.write_to(&mut out))?;
        Ok(lines)
    }

    /// Comes back when everything said so far is written.
    pub fn flush(&self) {
        let mut buffer = self.0.lock();
        while buffer.is_writing || !buffer.waiting.is_empty() {
            buffer = self.0.emptied.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut buffer = self.lock();
        while buffer.waiting.len() >= MOST {
            buffer = self.emptied.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        let was_empty = buffer.waiting.is_empty();
        buffer.waiting.extend_from_slice(line);
        drop(buffer);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// For as long as the process lives.
    fn write_to(&self, out: &mut impl Write) {
        let mut writing = Vec::new();
        loop {
            {
                let mut buffer = self.lock();
                buffer.is_writing = false;
                self.emptied.notify_all();
                while buffer.waiting.is_empty() {
                    buffer = self.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
                }
            }
            thread::sleep(GATHER);
            {
                let mut buffer = self.lock();
                buffer.is_writing = true;
                std::mem::swap(&mut buffer.waiting, &mut writing);
            }
            // There is nobody left to tell that nothing can be told.
            let _ = out.write_all(&writing).and_then(|()| out.flush());
            writing.clear();
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// A line, which comes as one piece.
pub struct Line<'a>(&'a Shared);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it was given, piece by piece.
    #[derive(Clone, Default)]
    struct Pieces(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Pieces {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").push(piece.to_vec());
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_together_and_whole_and_in_their_order() {
        let pieces = Pieces::default();
        let lines = Lines::to(pieces.clone()).expect("a thread");
        let said: Vec<_> = (0..1000).map(|number| format!("line {number}\n")).collect();
        for line in &said {
            lines.make_writer().write_all(line.as_bytes()).expect("a line");
        }
        lines.flush();
        let pieces = pieces.0.lock().expect("no panic");
        assert_eq!(String::from_utf8(pieces.concat()).expect("text"), said.concat());
        assert!(pieces.len() < 100, "{} pieces", pieces.len());
    }

    #[test]
    fn a_full_buffer_makes_lines_wait_and_loses_none() {
        let pieces = Pieces::default();
        let lines = Lines::to(pieces.clone()).expect("a thread");
        let line = vec![b'x'; MOST / 2];
        for _ in 0..9 {
            lines.make_writer().write_all(&line).expect("a line");
        }
        lines.flush();
        assert_eq!(pieces.0.lock().expect("no panic").iter().map(Vec::len).sum::<usize>(), 9 * line.len());
    }
}
