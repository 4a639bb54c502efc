//! `-console-out`: lines to standard output, batch by batch, on a thread of its own, as a terminal may be slow.

use std::io::{self, Write as _};

use shared::lifecycle::Tasks;
use tokio::sync::mpsc;
use tracing::error;

use crate::batch::Open;

/// Batches that wait for the printer.
const WAITING: usize = 16;

/// Starts the printer. It ends when the last sender is gone.
pub(crate) fn start(tasks: &Tasks) -> io::Result<mpsc::Sender<Open>> {
    let (sender, mut batches) = mpsc::channel::<Open>(WAITING);
    tasks.spawn_thread("console".to_owned(), move || {
        let mut complained = false;
        while let Some(batch) = batches.blocking_recv() {
            let mut out = io::stdout().lock();
            let printed = out.write_all(batch.data()).and_then(|()| out.flush());
            if let Err(reason) = printed
                && !std::mem::replace(&mut complained, true)
            {
                error!(%reason, "cannot write to standard output");
            }
        }
    })?;
    Ok(sender)
}
