//! Groups concurrent writes into one statement and one commit.
//!
//! ```text
//! callers ─▶ queue ─▶ a runner takes what waits ─▶ one write ─▶ each caller its own result
//!                        └ the write failed: each item once more by itself
//! ```
//!
//! One caller alone waits for nobody; many pay for one commit. A caller that goes away leaves its item
//! to be written all the same.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::error::{Code, Error};

/// How a group writes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items of one write at most.
    pub most: usize,
    /// Writes at the same time.
    pub at_once: usize,
    /// There is more than one only while so many wait: two small writes cost more than one.
    pub worth_another: usize,
}

/// Turns that a write leaves to others at most, before it begins.
const TURNS: usize = 8;

type Waiting<T, R> = (Arc<T>, oneshot::Sender<Result<R, Error>>);

struct Queue<T, R> {
    waiting: VecDeque<Waiting<T, R>>,
    running: usize,
}

/// Items of one kind that are written together.
pub struct Group<T, R>(Mutex<Queue<T, R>>);

impl<T, R> Default for Group<T, R> {
    fn default() -> Self {
        Self(Mutex::new(Queue { waiting: VecDeque::new(), running: 0 }))
    }
}

impl<T: Send + Sync + 'static, R: Send + 'static> Group<T, R> {
    /// Hands an item to the next write and gives what became of it, after its commit. All callers of one
    /// group pass the same `write`; it gives one result an item, in their order.
    pub async fn join<W, Fut>(self: &Arc<Self>, item: T, limits: Limits, write: W) -> Result<R, Error>
    where
        W: Fn(Vec<Arc<T>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Result<R, Error>>, Error>> + Send + 'static,
    {
        self.join_all(vec![item], limits, write).await.pop().unwrap_or_else(|| Err(lost()))
    }

    /// Hands several items over at once; the results are in their order.
    pub async fn join_all<W, Fut>(self: &Arc<Self>, items: Vec<T>, limits: Limits, write: W) -> Vec<Result<R, Error>>
    where
        W: Fn(Vec<Arc<T>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Result<R, Error>>, Error>> + Send + 'static,
    {
        let mut answers = Vec::with_capacity(items.len());
        let start = {
            let mut queue = self.queue();
            for item in items {
                let (answer, result) = oneshot::channel();
                queue.waiting.push_back((Arc::new(item), answer));
                answers.push(result);
            }
            let worth_it = queue.waiting.len() >= limits.worth_another;
            let start = queue.running == 0 || (worth_it && queue.running < limits.at_once);
            queue.running += usize::from(start);
            start
        };
        if start {
            tokio::spawn(self.clone().run(limits, write));
        }
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(answer.await.unwrap_or_else(|_| Err(lost())));
        }
        results
    }

    /// Whether anybody waits for the next write.
    pub fn is_wanted(&self) -> bool {
        !self.queue().waiting.is_empty()
    }

    async fn run<W, Fut>(self: Arc<Self>, limits: Limits, write: W)
    where
        W: Fn(Vec<Arc<T>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Result<R, Error>>, Error>> + Send + 'static,
    {
        loop {
            self.gather(limits.most).await;
            let Some((items, answers)) = self.take(limits.most) else { return };
            // In a task of its own: a panic costs this write, not the queue.
            let results = match tokio::spawn(write(items.clone())).await {
                Ok(Ok(results)) => results,
                // Each by itself would only wait in vain once more.
                Ok(Err(error)) if items.len() == 1 || error.code == Code::DatabaseUnavailable => {
                    items.iter().map(|_| Err(error.clone())).collect()
                }
                Ok(Err(_)) => singly(items, &write).await,
                Err(_) => continue,
            };
            for (answer, result) in answers.into_iter().zip(results) {
                // Nobody may be waiting any more.
                let _ = answer.send(result);
            }
        }
    }

    /// Whoever is about to ask comes along: lets every task that is ready run, and again while that brings more.
    async fn gather(&self, most: usize) {
        let mut known = 1;
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
            let waiting = self.queue().waiting.len();
            if waiting <= known || waiting >= most {
                break;
            }
            known = waiting;
        }
    }

    /// What waits, as far as it goes together; None, and the runner counted out, when nothing does.
    #[expect(clippy::type_complexity, reason = "the items and their callers, side by side")]
    fn take(&self, most: usize) -> Option<(Vec<Arc<T>>, Vec<oneshot::Sender<Result<R, Error>>>)> {
        let mut queue = self.queue();
        let together = queue.waiting.len().min(most);
        if together == 0 {
            queue.running -= 1;
            return None;
        }
        Some(queue.waiting.drain(..together).unzip())
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T, R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost() -> Error {
    Error::new(Code::Internal).because("a grouped write ended without a result for each item")
}

/// One bad item must not fail the others.
async fn singly<T, R, W, Fut>(items: Vec<Arc<T>>, write: &W) -> Vec<Result<R, Error>>
where
    R: Send + 'static,
    W: Fn(Vec<Arc<T>>) -> Fut,
    Fut: Future<Output = Result<Vec<Result<R, Error>>, Error>> + Send + 'static,
{
    let mut results = Vec::with_capacity(items.len());
    for item in items {
        let written = tokio::spawn(write(vec![item])).await.unwrap_or_else(|_| Err(lost()));
        results.push(written.and_then(|mut results| results.pop().unwrap_or_else(|| Err(lost()))));
    }
    results
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits { most: 8, at_once: 1, worth_another: 8 };

    async fn all(group: &Arc<Group<u32, u32>>, sizes: &Arc<Mutex<Vec<usize>>>, items: u32) -> Vec<Result<u32, Error>> {
        let mut tasks = Vec::new();
        for item in 0..items {
            let (group, sizes) = (group.clone(), sizes.clone());
            tasks.push(tokio::spawn(async move {
                let write = move |items: Vec<Arc<u32>>| {
                    let sizes = sizes.clone();
                    async move {
                        sizes.lock().expect("no panic").push(items.len());
                        tokio::task::yield_now().await;
                        assert!(items.len() > 1 || *items[0] != 13, "thirteen panics by itself");
                        if items.iter().any(|item| **item % 10 == 3) {
                            return Err(Error::new(Code::Internal));
                        }
                        Ok(items.iter().map(|item| Ok(**item * 2)).collect())
                    }
                };
                group.join(item, LIMITS, write).await
            }));
        }
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.expect("the caller lives"));
        }
        results
    }

    #[tokio::test]
    async fn each_caller_gets_its_own_result_and_a_bad_item_fails_alone() {
        let (group, sizes) = (Arc::default(), Arc::default());
        let results = all(&group, &sizes, 10).await;
        for (item, result) in results.iter().enumerate() {
            assert_eq!(result.is_ok(), item != 3, "{item}");
        }
        assert_eq!(results[9].as_ref().ok(), Some(&18));
        let sizes = sizes.lock().expect("no panic").clone();
        assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
        assert!(sizes.iter().any(|size| *size > 1), "what waits goes together: {sizes:?}");
    }

    #[tokio::test]
    async fn a_panic_costs_one_write_and_the_group_goes_on() {
        let (group, sizes) = (Arc::default(), Arc::default());
        let results = all(&group, &sizes, 14).await;
        assert!(results[13].is_err());
        assert_eq!(all(&group, &sizes, 2).await.iter().filter(|result| result.is_ok()).count(), 2);
    }

    #[tokio::test]
    async fn those_who_come_turn_after_turn_go_together_and_one_alone_waits_for_nobody() {
        let group: Arc<Group<u32, u32>> = Arc::default();
        let (begun, mut sizes) = tokio::sync::mpsc::unbounded_channel();
        let join = |turns: u32| {
            let (group, begun) = (group.clone(), begun.clone());
            let write = move |items: Vec<Arc<u32>>| {
                let _ = begun.send(items.len());
                async move { Ok(items.iter().map(|item| Ok(**item)).collect()) }
            };
            async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                group.join(turns, LIMITS, write).await
            }
        };
        let come = [0, 0, 1, 1, 2, 2, 3, 3];
        let tasks = come.map(|turns| tokio::spawn(join(turns)));
        // In which order those who are ready run is the runtime's affair: not all of them need to be in.
        let together = sizes.recv().await;
        assert!(together > Some(2), "only those of the first turn: {together:?}");
        for (turns, task) in come.into_iter().zip(tasks) {
            assert_eq!(task.await.expect("the caller lives").ok(), Some(turns));
        }
        while sizes.try_recv().is_ok() {}
        assert_eq!(join(0).await.ok(), Some(0));
        assert_eq!(sizes.recv().await, Some(1));
    }

    #[tokio::test]
    async fn another_write_begins_beside_one_when_enough_wait_for_it() {
        let group: Arc<Group<u32, u32>> = Arc::default();
        let limits = Limits { most: 8, at_once: 2, worth_another: 3 };
        let (begun, mut sizes) = tokio::sync::mpsc::unbounded_channel();
        let join = || {
            let (group, begun) = (group.clone(), begun.clone());
            // No write ever ends.
            let write = move |items: Vec<Arc<u32>>| {
                let _ = begun.send(items.len());
                std::future::pending()
            };
            tokio::spawn(async move { group.join(1, limits, write).await });
        };
        join();
        assert_eq!(sizes.recv().await, Some(1));
        join();
        join();
        let second = tokio::time::timeout(Duration::from_millis(50), sizes.recv()).await;
        assert!(second.is_err(), "two are not worth it: {second:?}");
        join();
        assert_eq!(sizes.recv().await, Some(3));
    }
}
