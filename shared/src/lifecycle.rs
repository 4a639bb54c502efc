//! The life of a process: signals, named tasks and threads, and a drain with a deadline.
//!
//! Every task and every thread of a tool is started through [`Tasks`]. A group of tasks shares one stop token; stopping
//! the group and waiting for it are two calls, so that a tool can stop its inputs, wait, then stop its outputs.

use std::{any::Any, future::Future, io, thread, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// A group of tasks and threads that are stopped, and waited for, together.
///
/// Cloning gives another handle on the same group.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when a thread has panicked.
    broken: CancellationToken,
}

/// Whether all tasks of a group had ended when the deadline came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// All have ended.
    Completely,
    /// Some were still running.
    DeadlineReached,
}

impl Tasks {
    /// Makes an empty group.
    #[expect(
        clippy::new_without_default,
        reason = "a group of tasks is made on purpose"
    )]
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            broken: CancellationToken::new(),
        }
    }

    /// Makes an empty group that is stopped with this one, but waited for on its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: self.stop.child_token(),
            broken: self.broken.clone(),
        }
    }

    /// Returns the token that [`Tasks::stop`] cancels.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task. A panic in it is logged under `name` and ends that task alone.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let supervised = self.tracker.track_future(task);
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that spawns"
        )]
        let handle = tokio::spawn(supervised);
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that spawns"
        )]
        tokio::spawn(async move {
            if let Err(failure) = handle.await
                && failure.is_panic()
            {
                error!(
                    task = name,
                    reason = panic_text(&*failure.into_panic()),
                    "task panicked"
                );
            }
        });
    }

    /// Starts an operating system thread that counts as a task of this group.
    ///
    /// The thread must watch the stop token itself. A panic in it is logged under `name`, and [`Tasks::broken`] tells of it:
    /// a thread that is part of the data path is not missed by anybody else.
    pub fn spawn_thread(
        &self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (done, finished) = oneshot::channel::<()>();
        let broken = self.broken.clone();
        thread::Builder::new().name(name.clone()).spawn(move || {
            // Dropped when the thread ends, however it ends.
            let _done = done;
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                error!(
                    thread = name,
                    reason = panic_text(&*panic),
                    "thread panicked"
                );
                broken.cancel();
            }
        })?;
        self.spawn("thread watch", async move {
            // The error is the news: the sender is gone, so the thread is.
            let _ended = finished.await;
        });
        Ok(())
    }

    /// Waits until a thread of this group, or of a child of it, has panicked.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Asks all tasks to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all tasks have ended, `limit` at most. Does not ask them to.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.tracker.close();
        match timeout(limit, self.tracker.wait()).await {
            Ok(()) => Drained::Completely,
            Err(_) => Drained::DeadlineReached,
        }
    }

    /// Returns how many tasks of the group are running.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }
}

/// What a signal asks of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: end in order.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals of the process. From [`Signals::install`] on, none of them ends it by itself, and SIGUSR1 and SIGUSR2 are
/// ignored, as the originals ignore them.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    _ignored: [Signal; 2],
}

impl Signals {
    /// Takes over the signals. Needs a running tokio runtime.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _ignored: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }

    /// Waits for the next signal that asks for something. Cancel-safe.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_and_threads() {
        let tasks = Tasks::new();
        let ended = Arc::new(AtomicBool::new(false));
        let stop = tasks.stop_token();
        tasks.spawn("waits for the token", async move { stop.cancelled().await });
        let (stop, flag) = (tasks.stop_token(), ended.clone());
        tasks
            .spawn_thread("polls the token".to_owned(), move || {
                while !stop.is_cancelled() {
                    thread::yield_now();
                }
                flag.store(true, Ordering::Release);
            })
            .unwrap();
        assert_eq!(
            tasks.drain(Duration::from_millis(1)).await,
            Drained::DeadlineReached
        );
        tasks.stop();
        assert_eq!(
            tasks.drain(Duration::from_secs(10)).await,
            Drained::Completely
        );
        assert!(ended.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone_and_that_of_a_thread_is_told() {
        let tasks = Tasks::new();
        tasks.spawn("panics", async { panic!("on purpose") });
        tasks
            .spawn_thread("panics".to_owned(), || panic!("on purpose"))
            .unwrap();
        assert_eq!(
            tasks.drain(Duration::from_secs(10)).await,
            Drained::Completely
        );
        tasks.broken().await;
    }

    #[tokio::test]
    async fn stopping_a_group_stops_its_children() {
        let tasks = Tasks::new();
        let child = tasks.child();
        tasks.stop();
        assert!(child.stop_token().is_cancelled());
    }
}
