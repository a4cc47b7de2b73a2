//! The messages of containerd's API that the agent sends and reads, each with only the fields that are used. Field
//! numbers are containerd's.

use std::collections::HashMap;

use prost::Message;

/// The request of every call that takes filters: lists, metrics, events.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Filters {
    #[prost(string, repeated, tag = "1")]
    pub(super) filters: Vec<String>,
}

/// What names one thing: the request for an image or for content, the event of an image.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Named {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Containers {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(map = "string, string", tag = "2")]
    pub(super) labels: HashMap<String, String>,
    #[prost(message, optional, tag = "4")]
    pub(super) runtime: Option<Runtime>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Runtime {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metrics {
    #[prost(message, repeated, tag = "1")]
    pub(super) metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) data: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Images {
    #[prost(message, repeated, tag = "1")]
    pub(super) images: Vec<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImageAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) name: String,
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
pub(super) struct Piece {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(message, optional, tag = "4")]
    pub(super) event: Option<Any>,
}

/// What shims answer on cgroup v1.
pub(super) mod v1 {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Metrics {
        #[prost(message, optional, tag = "2")]
        pub(in super::super) pids: Option<super::Processes>,
        #[prost(message, optional, tag = "3")]
        pub(in super::super) cpu: Option<Cpu>,
        #[prost(message, optional, tag = "4")]
        pub(in super::super) memory: Option<Memory>,
        #[prost(message, optional, tag = "9")]
        pub(in super::super) memory_oom_control: Option<OomControl>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Cpu {
        #[prost(message, optional, tag = "1")]
        pub(in super::super) usage: Option<CpuUsage>,
        #[prost(message, optional, tag = "2")]
        pub(in super::super) throttling: Option<Throttling>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct CpuUsage {
        #[prost(uint64, tag = "1")]
        pub(in super::super) total: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Throttling {
        #[prost(uint64, tag = "3")]
        pub(in super::super) time: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Memory {
        #[prost(uint64, tag = "30")]
        pub(in super::super) total_inactive_file: u64,
        #[prost(message, optional, tag = "33")]
        pub(in super::super) usage: Option<MemoryEntry>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct MemoryEntry {
        #[prost(uint64, tag = "1")]
        pub(in super::super) limit: u64,
        #[prost(uint64, tag = "2")]
        pub(in super::super) usage: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct OomControl {
        #[prost(uint64, tag = "3")]
        pub(in super::super) oom_kill: u64,
    }
}

/// What shims answer on cgroup v2.
pub(super) mod v2 {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Metrics {
        #[prost(message, optional, tag = "1")]
        pub(in super::super) pids: Option<super::Processes>,
        #[prost(message, optional, tag = "2")]
        pub(in super::super) cpu: Option<Cpu>,
        #[prost(message, optional, tag = "4")]
        pub(in super::super) memory: Option<Memory>,
        #[prost(message, optional, tag = "8")]
        pub(in super::super) memory_events: Option<MemoryEvents>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Cpu {
        #[prost(uint64, tag = "1")]
        pub(in super::super) usage: u64,
        #[prost(uint64, tag = "6")]
        pub(in super::super) throttled: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Memory {
        #[prost(uint64, tag = "13")]
        pub(in super::super) inactive_file: u64,
        #[prost(uint64, tag = "32")]
        pub(in super::super) usage: u64,
        #[prost(uint64, tag = "33")]
        pub(in super::super) usage_limit: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct MemoryEvents {
        #[prost(uint64, tag = "5")]
        pub(in super::super) oom_kill: u64,
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Processes {
    #[prost(uint64, tag = "1")]
    pub(super) current: u64,
}
