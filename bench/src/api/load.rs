//! Closed loops of connections, and watchers that count.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bench::masters::Target;
use futures::future::try_join_all;
use http_body_util::BodyExt;

use crate::connection::{Connection, Request};

/// A closed loop.
pub(crate) struct Loop<'a> {
    pub(crate) targets: &'a [Target],
    pub(crate) connections: usize,
    /// Measured time, after a fifth of it that is not.
    pub(crate) window: Duration,
    /// The request of a worker's turn.
    pub(crate) request: &'a dyn Fn(usize, usize) -> Request,
    /// What the masters have used so far.
    pub(crate) cpu: &'a dyn Fn() -> Duration,
}

/// What a loop measured.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) operations: u64,
    pub(crate) refused: u64,
    pub(crate) complaint: String,
    pub(crate) took: Duration,
    pub(crate) cpu: Duration,
}

/// Runs a loop.
pub(crate) async fn run(work: &Loop<'_>) -> Result<Measured> {
    let begin = Instant::now() + work.window / 5;
    let end = begin + work.window;
    let measured = RefCell::new(Measured::default());
    let workers = (0..work.connections).map(|worker| {
        let measured = &measured;
        async move {
            let target = &work.targets[worker % work.targets.len()];
            let mut connection = Connection::open(target).await?;
            for at in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let answer = connection.call(&(work.request)(worker, at)).await?;
                let mut measured = measured.borrow_mut();
                if !answer.is_success {
                    measured.refused += 1;
                    measured.complaint = answer.complaint;
                } else if Instant::now() >= begin {
                    measured.operations += 1;
                }
            }
            anyhow::Ok(())
        }
    });
    let clock = async {
        tokio::time::sleep_until(begin.into()).await;
        let before = (work.cpu)();
        tokio::time::sleep_until(end.into()).await;
        Ok((work.cpu)() - before)
    };
    let (_, cpu) = tokio::try_join!(try_join_all(workers), clock)?;
    let mut measured = measured.into_inner();
    measured.took = work.window;
    measured.cpu = cpu;
    Ok(measured)
}

/// Every worker sends so many requests, all of which must succeed.
pub(crate) async fn each(
    targets: &[Target],
    workers: usize,
    per_worker: usize,
    request: &dyn Fn(usize, usize) -> Request,
) -> Result<()> {
    let workers = (0..workers).map(|worker| async move {
        let mut connection = Connection::open(&targets[worker % targets.len()]).await?;
        for at in 0..per_worker {
            let answer = connection.call(&request(worker, at)).await?;
            if !answer.is_success {
                bail!("refused: {}", answer.complaint);
            }
        }
        Ok(())
    });
    try_join_all(workers).await.map(drop)
}

/// Workers send requests until a moment.
pub(crate) async fn until(
    targets: &[Target],
    workers: usize,
    end: Instant,
    request: &dyn Fn(usize, usize) -> Request,
) -> Result<()> {
    let workers = (0..workers).map(|worker| async move {
        let mut connection = Connection::open(&targets[worker % targets.len()]).await?;
        for at in 0.. {
            if Instant::now() >= end {
                break;
            }
            connection.call(&request(worker, at)).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(workers).await.map(drop)
}

/// Opens watches that count lines for as long as the process lives.
pub(crate) async fn watchers(
    targets: &[Target],
    count: usize,
    path: &str,
) -> Result<Rc<Cell<u64>>> {
    let counted = Rc::new(Cell::new(0));
    for at in 0..count {
        let mut connection = Connection::open(&targets[at % targets.len()]).await?;
        let response = connection
            .send(&Request::get(path, "application/json"))
            .await?;
        let mut body = response.into_body();
        let counted = counted.clone();
        tokio::task::spawn_local(async move {
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    let lines = data.iter().filter(|byte| **byte == b'\n').count();
                    counted.set(counted.get() + lines as u64);
                }
            }
            drop(connection);
        });
    }
    Ok(counted)
}
