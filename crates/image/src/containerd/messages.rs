//! The messages of containerd's API, each with only the fields that are read or written here. Field
//! numbers are containerd's; what is not named is skipped by the decoder.

use std::collections::HashMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContainerRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "3")]
    pub(super) image: String,
    #[prost(string, tag = "6")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "7")]
    pub(super) snapshot_key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// Answer of `Get`, and the request of `Create`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ImageEnvelope {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(map = "string, string", tag = "2")]
    pub(super) labels: HashMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatSnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<SnapshotInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotInfo {
    #[prost(string, tag = "2")]
    pub(super) parent: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContentInfoRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContentInfoResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<ContentInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContentInfo {
    #[prost(int64, tag = "2")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    pub(super) offset: i64,
    /// 0 means to the end.
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentResponse {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: prost::bytes::Bytes,
}
