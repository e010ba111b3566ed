//! Processes that this one starts, and that never outlive it.
//!
//! Ours hold a leash, the other end of their standard input: when this process is gone, however it ended,
//! they read its end and go, too. A process dropped here is killed and waited for.

use std::{
    io::Read,
    net::SocketAddr,
    process::{Child as Started, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Result, clock};

pub struct Child {
    started: Started,
    /// How it is ended when it is no longer wanted.
    ending: Signal,
    _leash: Option<ChildStdin>,
}

impl Child {
    pub fn start(command: &mut Command, ending: Signal) -> Result<Self> {
        let mut started = command.stdin(Stdio::piped()).spawn()?;
        let leash = started.stdin.take();
        Ok(Self { started, ending, _leash: leash })
    }

    /// This very program as another process, running a hidden command that prints its address first.
    pub fn of_our_own(arguments: &[&str]) -> Result<(Self, SocketAddr)> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = Self::start(command.args(arguments).stdout(Stdio::piped()), Signal::KILL)?;
        let output = child.started.stdout.take().ok_or("its output is not ours")?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{arguments:?} did not start"))?;
        Ok((child, address))
    }

    pub fn pid(&self) -> u32 {
        self.started.id()
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL, and nothing of it is left.
    pub fn kill(&mut self) -> Result<()> {
        self.started.kill()?;
        self.started.wait()?;
        Ok(())
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.started.try_wait(), Ok(None))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        self.signal(self.ending);
        let began = clock::now();
        while !self.has_ended() && began.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.kill();
    }
}

/// Ends this process when the one that started it is gone.
pub fn end_with_parent() {
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
