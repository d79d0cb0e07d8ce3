//! The gRPC health service: serving until the member stops.

use futures::stream::{self, Stream, StreamExt};
use seams::Tasks;
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Inner;
use super::grpc::METHOD_NAMES;
use crate::error::{Error, Result};

pub(super) async fn check(_: &Inner, request: HealthCheckRequest) -> Result<HealthCheckResponse> {
    if is_served(&request.service) {
        return Ok(response(ServingStatus::Serving));
    }
    let code = tonic::Code::NotFound as i32;
    Err(Error::Remote {
        code,
        message: "unknown service".to_owned(),
    })
}

/// Tells the state now, and once more when the member stops.
pub(super) fn watch(
    request: HealthCheckRequest,
    tasks: Tasks,
) -> Result<impl Stream<Item = Result<HealthCheckResponse, Status>>, Status> {
    let known = is_served(&request.service);
    let now = if known {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    };
    let end = stream::once(async move {
        tasks.cancelled().await;
        Ok(response(if known {
            ServingStatus::NotServing
        } else {
            now
        }))
    });
    Ok(stream::iter([Ok(response(now))]).chain(end))
}

/// The empty name stands for the server as a whole.
fn is_served(service: &str) -> bool {
    service.is_empty() || METHOD_NAMES.iter().any(|name| name.service == service)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}
