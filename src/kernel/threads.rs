//! Work shared out over threads: outputs to whoever is free, so that no sum is ever split.
//!
//! This file does not know what the work is, nor how many threads there should be.

use std::sync::{Mutex, PoisonError};

/// Calls `work` on each of `items`, on one thread for each of `workspaces` at most; which thread gets which item is not said, so
/// what a workspace holds from one item to the next must make no difference.
///
/// # Panics
/// If `work` does, or there are no workspaces.
pub fn share<T, W: Send>(
    workspaces: &mut [W],
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut W, T) + Sync,
) {
    let (own, others) = workspaces.split_first_mut().expect("a workspace for one thread at least");
    let items = Mutex::new(items);
    let run = |workspace: &mut W| {
        loop {
            // In a statement of its own: the lock is not held while the item is worked on.
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            match item {
                Some(item) => work(workspace, item),
                None => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for workspace in others {
            // Where the system has no more threads, there are fewer.
            if std::thread::Builder::new().spawn_scoped(scope, || run(workspace)).is_err() {
                break;
            }
        }
        run(own);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            for n in [0, 1, 3, 100] {
                let mut outputs = vec![0; n];
                share(&mut vec![(); threads], outputs.iter_mut().enumerate(), |(), (i, output)| {
                    *output += i + 1
                });
                assert_eq!(outputs, (1..=n).collect::<Vec<_>>(), "{n} items on {threads} threads");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a workspace for one thread at least")]
    fn work_without_a_thread_is_refused() {
        share(&mut [(); 0], 0..3, |(), _| ());
    }
}
