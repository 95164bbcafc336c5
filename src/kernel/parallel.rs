//! Parallel loops over independent outputs, so that no sum is ever split.

use std::sync::{Mutex, PoisonError};

/// Calls `work` on each of `items`, on at most one thread per workspace. A workspace is passed to
/// many items in unspecified order, so the result must not depend on its content.
///
/// # Panics
/// If `work` panics, or there are no workspaces.
pub fn parallel_for<T, W: Send>(
    workspaces: &mut [W],
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut W, T) + Sync,
) {
    let (own, others) = workspaces.split_first_mut().expect("there is no workspace");
    let items = Mutex::new(items);
    let run = |workspace: &mut W| {
        loop {
            // A statement of its own, so that the lock is released before the item is processed.
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            match item {
                Some(item) => work(workspace, item),
                None => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for workspace in others {
            // If the system refuses a thread, fewer threads do the work.
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
    fn every_item_is_processed_once_on_any_number_of_threads() {
        for threads in [1, 2, 5] {
            for n in [0, 1, 3, 100] {
                let mut outputs = vec![0; n];
                parallel_for(
                    &mut vec![(); threads],
                    outputs.iter_mut().enumerate(),
                    |(), (i, output)| *output += i + 1,
                );
                assert_eq!(outputs, (1..=n).collect::<Vec<_>>(), "{n} items on {threads} threads");
            }
        }
    }

    #[test]
    #[should_panic(expected = "there is no workspace")]
    fn a_loop_without_a_workspace_is_refused() {
        parallel_for(&mut [(); 0], 0..3, |(), _| ());
    }
}
