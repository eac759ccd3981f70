//! One request in, one response out.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{
    exec, logs, portforward,
    reply::{Body, Failure, json_response},
    routes::{Route, parse},
    stats::Sampler,
};
use crate::{clock::Clock, engine::Engine, seams::PodDirectory};

/// Answers the requests that come through the tunnel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Arc<dyn Engine>,
    directory: PodDirectory,
    sampler: Sampler,
    clock: Clock,
}

impl StreamService {
    /// A service over the pods of `directory`, whose containers `engine` runs.
    pub fn new(engine: Arc<dyn Engine>, directory: PodDirectory, clock: Clock) -> Self {
        let sampler = Sampler::new(Arc::clone(&engine), clock.clone());
        Self { inner: Arc::new(Inner { engine, directory, sampler, clock }) }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        Ok(self.try_answer(request).await.unwrap_or_else(Failure::into_response))
    }

    async fn try_answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let Inner { engine, directory, sampler, clock } = self.inner.as_ref();
        let (parts, body) = request.into_parts();
        let route = parse(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default(), clock.now())?;
        match route {
            Route::Logs { target, options } => logs::stream(engine, directory, &target, &options).await,
            Route::Exec { target, command, streams } => {
                exec::exec(engine, directory, &target, (command, streams), body).await
            }
            Route::Attach { target, streams } => exec::attach(engine, directory, &target, streams, body).await,
            Route::PortForward { pod, port } => portforward::forward(directory, &pod, port, body).await,
            Route::Stats => Ok(json_response(StatusCode::OK, &sampler.report(directory).await)),
        }
    }
}
