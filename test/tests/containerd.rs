//! Tests with real containerds. `test/run.sh containerd` builds what they need and runs them.
//!
//! Each module is one question; `reference` asks it of runc, so that a failing test is our fault and not the harness's.

#[path = "containerd/alone.rs"]
mod alone;
#[path = "containerd/bad_image.rs"]
mod bad_image;
#[path = "containerd/bad_module.rs"]
mod bad_module;
#[path = "containerd/builder.rs"]
mod builder;
#[path = "containerd/cache.rs"]
mod cache;
#[path = "containerd/command.rs"]
mod command;
#[path = "containerd/crash.rs"]
mod crash;
#[path = "containerd/cri.rs"]
mod cri;
#[path = "containerd/cycles.rs"]
mod cycles;
#[path = "containerd/disk.rs"]
mod disk;
#[path = "containerd/endings.rs"]
mod endings;
#[path = "containerd/engine_options.rs"]
mod engine_options;
#[path = "containerd/engine_table.rs"]
mod engine_table;
#[path = "containerd/engines.rs"]
mod engines;
#[path = "containerd/exec.rs"]
mod exec;
#[path = "containerd/figures.rs"]
mod figures;
#[path = "containerd/http.rs"]
mod http;
#[path = "containerd/http_2.rs"]
mod http_2;
#[path = "containerd/http_drafts.rs"]
mod http_drafts;
#[path = "containerd/http_end.rs"]
mod http_end;
#[path = "containerd/http_p3.rs"]
mod http_p3;
#[path = "containerd/http_resize.rs"]
mod http_resize;
#[path = "containerd/http_storm.rs"]
mod http_storm;
#[path = "containerd/http_tls.rs"]
mod http_tls;
#[path = "containerd/life.rs"]
mod life;
#[path = "containerd/limits.rs"]
mod limits;
#[path = "containerd/linux.rs"]
mod linux;
#[path = "containerd/linux_pods.rs"]
mod linux_pods;
#[path = "containerd/options.rs"]
mod options;
#[path = "containerd/reach.rs"]
mod reach;
#[path = "containerd/reference.rs"]
mod reference;
#[path = "containerd/run.rs"]
mod run;
#[path = "containerd/stats.rs"]
mod stats;
#[path = "containerd/sweep.rs"]
mod sweep;
#[path = "containerd/terminal.rs"]
mod terminal;
#[path = "containerd/termination.rs"]
mod termination;
#[path = "containerd/toolbox.rs"]
mod toolbox;
#[path = "containerd/user.rs"]
mod user;
#[path = "containerd/volumes.rs"]
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    let all = [
        sweep::CASES,
        reference::CASES,
        run::CASES,
        cri::CASES,
        builder::CASES,
        command::CASES,
        alone::CASES,
        toolbox::CASES,
        life::CASES,
        exec::CASES,
        linux::CASES,
        linux_pods::CASES,
        terminal::CASES,
        user::CASES,
        limits::CASES,
        figures::CASES,
        options::CASES,
        engines::CASES,
        engine_options::CASES,
        engine_table::CASES,
        http::CASES,
        http_p3::CASES,
        http_end::CASES,
        http_2::CASES,
        http_drafts::CASES,
        http_resize::CASES,
        http_tls::CASES,
        http_storm::CASES,
        termination::CASES,
        endings::CASES,
        stats::CASES,
        volumes::CASES,
        reach::CASES,
        bad_module::CASES,
        bad_image::CASES,
        cache::CASES,
        disk::CASES,
        crash::CASES,
        cycles::CASES,
    ];
    skiff_test::runner::main(&all, &["crash", "cycles"])
}
