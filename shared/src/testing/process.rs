//! A child process under test: its output line by line, its signals, its exit.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::eventually;

/// A running program whose standard output and error are collected. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Program {
    /// Starts `path` with `args`.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(
        path: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::spawn(Command::new(path).args(args))
    }

    /// Starts `command`, whose streams this takes over.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|reason| panic!("cannot start {command:?}: {reason}"));
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(
                child.stdout.take().expect("stdout is piped"),
                Arc::clone(&stdout),
            ),
            collect(
                child.stderr.take().expect("stderr is piped"),
                Arc::clone(&stderr),
            ),
        ];
        Self {
            child,
            stdout,
            stderr,
            readers,
        }
    }

    /// Returns what the process has written to standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    /// Returns what the process has written to standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a line, on either stream, that contains `text`, and returns it.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        let find = || {
            self.stderr()
                .into_iter()
                .chain(self.stdout())
                .find(|line| line.contains(text))
        };
        eventually(
            &format!("a line with {text:?}; stderr: {:#?}", self.stderr()),
            find,
        )
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id() as i32), signal).expect("the process is ours and not reaped");
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status if the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for the process to end by itself, then for the rest of its output.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the process to end", || self.exited());
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        status
    }

    /// Kills the process and waits for the end. For servers whose manners are not under test.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill().is_ok();
        let _reaped = self.child.wait().is_ok();
    }
}

fn collect(
    stream: impl Read + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            lines.lock().unwrap().push(
                String::from_utf8_lossy(&line)
                    .trim_end_matches('\n')
                    .to_owned(),
            );
            line.clear();
        }
    })
}
