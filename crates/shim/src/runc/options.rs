//! What a handler's options say of runc.

use containerd_shim_protos::shim::oci::Options;

/// Options for Linux containers, by the names that containerd's own shim for runc gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuncOptions {
    /// `BinaryName`: the executable, a path or a name that is looked for in `PATH`; empty is `runc`.
    pub binary_name: String,
    /// `Root`: where it keeps its state; empty is `/run/containerd/runc`.
    pub root: String,
    /// `IoUid`: who owns the container's streams.
    pub io_uid: u32,
    /// `IoGid`: their group.
    pub io_gid: u32,
    /// `NoPivotRoot`: the container's root is not pivoted to, which a root in an initial ramdisk needs.
    pub no_pivot_root: bool,
    /// `NoNewKeyring`: the container shares the session keyring of the shim.
    pub no_new_keyring: bool,
}

impl RuncOptions {
    /// Of the message that containerd sends for a runtime of its own.
    ///
    /// `CriuImagePath` and `CriuWorkPath` are for checkpoints, which are not made; `TaskApiAddress` and
    /// `TaskApiVersion` are for containerd, not for shims.
    pub fn of(message: &Options) -> Self {
        Self {
            binary_name: message.binary_name.clone(),
            root: message.root.clone(),
            io_uid: message.io_uid,
            io_gid: message.io_gid,
            no_pivot_root: message.no_pivot_root,
            no_new_keyring: message.no_new_keyring,
        }
    }
}
