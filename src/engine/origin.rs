//! On whose behalf changes are asked for.

use crate::model::event::By;

tokio::task_local! {
    static BY: By;
}

/// Runs something on somebody's behalf: the events of every change that it asks for say so.
pub async fn acting_for<T>(by: By, work: impl Future<Output = T>) -> T {
    BY.scope(by, work).await
}

/// On whose behalf this task runs.
pub(super) fn current() -> Option<By> {
    BY.try_with(By::clone).ok()
}
