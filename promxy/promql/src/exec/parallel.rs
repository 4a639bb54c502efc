//! Work on many series, on one thread or several.
//!
//! Threads only compute; what they have computed is taken by the caller's thread in the order of the series. So sums, limits,
//! annotations and errors are the same on any number of threads.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::thread;

use crate::error::QueryError;

/// How many series each thread computes before results are taken, which bounds how many wait.
const SERIES_AT_A_TIME: usize = 16;

/// Calls `compute` for every item, on up to so many threads, and `take` with the results in the order of the items.
///
/// Each thread has a workspace of its own, which it keeps from item to item.
pub(super) fn in_order<T, W, R>(
    threads: NonZeroUsize,
    items: impl IntoIterator<Item = T>,
    compute: impl Fn(&mut W, &T) -> R + Sync,
    mut take: impl FnMut(T, R) -> Result<(), QueryError>,
) -> Result<(), QueryError>
where
    T: Send,
    W: Default + Send,
    R: Send,
{
    let mut items = items.into_iter();
    let mut workspaces: Vec<W> = (0..threads.get()).map(|_| W::default()).collect();
    if let [workspace] = workspaces.as_mut_slice() {
        for item in items {
            let result = compute(workspace, &item);
            take(item, result)?;
        }
        return Ok(());
    }
    loop {
        let mut batches: Vec<Vec<T>> = Vec::with_capacity(threads.get());
        for _ in 0..threads.get() {
            let batch: Vec<T> = items.by_ref().take(SERIES_AT_A_TIME).collect();
            if !batch.is_empty() {
                batches.push(batch);
            }
        }
        if batches.is_empty() {
            return Ok(());
        }
        for (item, result) in computed(batches, &mut workspaces, &compute) {
            take(item, result)?;
        }
    }
}

/// Computes one batch on each thread.
fn computed<T: Send, W: Send, R: Send>(
    batches: Vec<Vec<T>>,
    workspaces: &mut [W],
    compute: &(impl Fn(&mut W, &T) -> R + Sync),
) -> Vec<(T, R)> {
    let work = |batch: Vec<T>, workspace: &mut W| -> Vec<(T, R)> {
        let results = batch.into_iter().map(|item| {
            let result = compute(workspace, &item);
            (item, result)
        });
        results.collect()
    };
    thread::scope(|scope| {
        let mut parts = batches.into_iter().zip(workspaces);
        let own = parts.next();
        let others: Vec<_> = parts
            .map(|(batch, workspace)| scope.spawn(move || work(batch, workspace)))
            .collect();
        let mut results = own.map_or_else(Vec::new, |(batch, workspace)| work(batch, workspace));
        for other in others {
            results.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_items_on_any_number_of_threads() {
        for threads in 1..5 {
            for count in [0, 1, 15, 16, 17, 100] {
                let mut taken = Vec::new();
                let compute = |calls: &mut usize, item: &usize| {
                    *calls += 1;
                    item * 2
                };
                let outcome = in_order(
                    NonZeroUsize::new(threads).unwrap(),
                    0..count,
                    compute,
                    |item, double| {
                        taken.push((item, double));
                        Ok(())
                    },
                );
                assert_eq!(outcome, Ok(()));
                let expected: Vec<_> = (0..count).map(|item| (item, 2 * item)).collect();
                assert_eq!(taken, expected);
            }
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut taken = 0;
        let threads = NonZeroUsize::new(3).unwrap();
        let outcome = in_order(
            threads,
            0..100,
            |(): &mut (), item| *item,
            |item, _| {
                taken += 1;
                if item == 40 {
                    return Err(QueryError::TooManySamples);
                }
                Ok(())
            },
        );
        assert_eq!((outcome, taken), (Err(QueryError::TooManySamples), 41));
    }
}
