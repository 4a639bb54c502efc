//! What a local veneur does at the end of its interval: it sends all it has, in one request or call.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, ensure};
use flate2::{Compression, write::ZlibEncoder};
use http::uri::PathAndQuery;
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use veneur_proxy::proto::{
    forwardrpc::{MetricList, SEND_METRICS, SEND_METRICS_V2},
    metricpb::Metric,
};

use super::traffic::{Sample, Way};
use crate::patience::PATIENCE;

/// A local veneur.
#[derive(Debug)]
pub(super) struct Sender {
    http: Option<SocketAddr>,
    grpc: Option<Channel>,
}

impl Sender {
    /// For a proxy that listens there.
    pub(super) async fn connect(http: Option<&str>, grpc: Option<&str>) -> anyhow::Result<Self> {
        let grpc = match grpc {
            None => None,
            Some(address) => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
                let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
                Some(endpoint.connect().await?)
            }
        };
        Ok(Self {
            http: http.map(str::parse).transpose()?,
            grpc,
        })
    }

    /// Sends what one interval brought, and returns once the proxy has accepted it.
    pub(super) async fn flush(&self, way: Way, samples: &[Sample]) -> anyhow::Result<()> {
        let metrics = samples.iter().map(|sample| sample.metric.clone());
        match way {
            Way::Import => self.post(samples),
            Way::SendMetrics => {
                let request = Request::new(MetricList {
                    metrics: metrics.collect(),
                });
                let path = PathAndQuery::from_static(SEND_METRICS);
                let codec = ProstCodec::<MetricList, ()>::default();
                self.client().await?.unary(request, path, codec).await?;
                Ok(())
            }
            Way::SendMetricsV2 => {
                let metrics: Vec<Metric> = metrics.collect();
                let request = Request::new(tokio_stream::iter(metrics));
                let path = PathAndQuery::from_static(SEND_METRICS_V2);
                let codec = ProstCodec::<Metric, ()>::default();
                let mut client = self.client().await?;
                client.client_streaming(request, path, codec).await?;
                Ok(())
            }
        }
    }

    async fn client(&self) -> anyhow::Result<Grpc<Channel>> {
        let channel = self.grpc.clone().context("the proxy takes no gRPC")?;
        let mut client = Grpc::new(channel);
        client.ready().await?;
        Ok(client)
    }

    fn post(&self, samples: &[Sample]) -> anyhow::Result<()> {
        let proxy = self.http.context("the proxy takes no HTTP")?;
        let elements: Vec<&str> = samples.iter().map(Sample::element).collect();
        let mut body = ZlibEncoder::new(Vec::new(), Compression::fast());
        write!(body, "[{}]", elements.join(","))?;
        let body = body.finish()?;
        let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "POST /import HTTP/1.1\r\nHost: {proxy}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Encoding: deflate\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(&body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 202 "), "refused: {answer}");
        Ok(())
    }
}
