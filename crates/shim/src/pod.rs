//! The containers of one shim: who is there, how they end, how they go.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use skiff_engine::compile::{Compiler, Settings as CompilerSettings};
use skiff_sandbox::programs::Programs;
use skiff_sandbox::slim;
use skiff_sandbox::spec::Facts;
use skiff_sandbox::sys::process::{self, ExitStatus};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::create::CreateError;
use crate::engine::{Engine, Runtime};
use crate::events::Events;
use crate::exit_record::Exit;
use crate::last_words;
use crate::leftovers;
use crate::oom;
use crate::process::{Process, State};
use crate::runc::{Orphans, Runc, RuncError};
use crate::socket;
use crate::status::{TaskError, Who, chain};
use crate::sys::watch_readable;
use crate::task::{Backend, Busy, Task};

/// How long `Delete` waits for a process that was sent SIGKILL, and for its cgroup to become empty.
const DELETE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between looks for a reader that has yet to fetch the output of a task that has ended.
const READER_PAUSE: Duration = Duration::from_millis(200);
/// The same once it has been away for long.
const READER_PAUSE_MOST: Duration = Duration::from_secs(2);
/// How long the output of a task that has ended may wait for its reader before the end is told. A reader that is
/// there has fetched it after a millisecond or two.
const READER_PATIENCE: Duration = Duration::from_millis(200);

/// All that the calls of one shim share.
#[derive(Debug)]
pub struct Pod {
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's gRPC socket, a path.
    pub address: PathBuf,
    /// What the runtime type says of the engine.
    pub runtime: Runtime,
    /// The bundle for which the shim was started; what is to be cleaned up after the shim is listed there.
    pub bundle: PathBuf,
    /// The way to containerd's subscribers.
    pub events: Events,
    tasks: Mutex<Tasks>,
    quit: Notify,
    /// Told when a container was created, or not.
    pub created: Notify,
    facts: OnceLock<Facts>,
    programs: OnceLock<Programs>,
    compilers: Mutex<Vec<(Engine, Compiler)>>,
    slim: OnceLock<Option<OwnedFd>>,
    orphans: OnceLock<Orphans>,
}

#[derive(Debug, Default)]
struct Tasks {
    by_id: BTreeMap<String, Place>,
    shutting_down: bool,
    /// A container was asked for, once.
    used: bool,
}

#[derive(Debug)]
enum Place {
    /// Being created; told when nobody wants it any more.
    Creating(Arc<Notify>),
    Created(Arc<Task>),
}

/// An id that is taken by a container being created; given back when dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    pod: &'a Pod,
    id: String,
    unwanted: Arc<Notify>,
    filled: bool,
}

impl Pod {
    /// A pod without containers.
    pub fn new(
        namespace: &str,
        address: &Path,
        runtime: Runtime,
        bundle: &Path,
        events: Events,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            address: address.to_owned(),
            runtime,
            bundle: bundle.to_owned(),
            events,
            tasks: Mutex::default(),
            quit: Notify::new(),
            created: Notify::new(),
            facts: OnceLock::new(),
            programs: OnceLock::new(),
            compilers: Mutex::default(),
            slim: OnceLock::new(),
            orphans: OnceLock::new(),
        }
    }

    /// Takes an id for a container to be created.
    ///
    /// # Errors
    /// It is taken, or the shim is about to exit.
    pub fn reserve(&self, id: &str) -> Result<Reservation<'_>, TaskError> {
        let mut tasks = self.tasks();
        if tasks.shutting_down {
            return Err(TaskError::ShuttingDown);
        }
        if tasks.by_id.contains_key(id) {
            return Err(TaskError::Exists { id: id.to_owned() });
        }
        tasks.used = true;
        let unwanted = Arc::new(Notify::new());
        tasks
            .by_id
            .insert(id.to_owned(), Place::Creating(Arc::clone(&unwanted)));
        Ok(Reservation {
            pod: self,
            id: id.to_owned(),
            unwanted,
            filled: false,
        })
    }

    /// The task of a container. One that is being created is none yet.
    ///
    /// # Errors
    /// There is none.
    pub fn task(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        match self.tasks().by_id.get(id) {
            Some(Place::Created(task)) => Ok(Arc::clone(task)),
            Some(Place::Creating(_)) | None => Err(TaskError::NoTask { id: id.to_owned() }),
        }
    }

    /// Whether nothing is left to serve.
    pub fn is_empty(&self) -> bool {
        self.tasks().by_id.is_empty()
    }

    /// Whether a container was ever asked for.
    pub fn was_used(&self) -> bool {
        self.tasks().used
    }

    /// Ends the shim if nobody has ever asked for a container. Whether it does.
    pub fn shut_down_unused(&self) -> bool {
        let mut tasks = self.tasks();
        if !tasks.used {
            tasks.shutting_down = true;
            self.quit.notify_one();
        }
        !tasks.used
    }

    /// Ends the shim, if it has no containers. Others are left in peace: containerd asks after each of
    /// them. Containers that are only being created are given up, since containerd has done so too.
    pub fn shut_down(&self) {
        let mut tasks = self.tasks();
        if tasks
            .by_id
            .values()
            .all(|place| matches!(place, Place::Creating(_)))
        {
            tasks.shutting_down = true;
            for place in tasks.by_id.values() {
                place.give_up();
            }
            self.quit.notify_one();
        }
    }

    /// Waits for [`Pod::shut_down`].
    pub async fn quit(&self) {
        self.quit.notified().await;
    }

    /// Facts of the node, found out once.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn facts(&self) -> Result<&Facts, CreateError> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let facts = Facts::read().map_err(CreateError::Facts)?;
        Ok(self.facts.get_or_init(|| facts))
    }

    /// The driver of an engine's compile workers. Nearly every pod has one engine.
    ///
    /// # Errors
    /// There is no worker of this engine.
    pub fn compiler(&self, engine: &Engine) -> Result<Compiler, CreateError> {
        let mut compilers = self
            .compilers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, compiler)) = compilers.iter().find(|(known, _)| known == engine) {
            return Ok(compiler.clone());
        }
        let settings =
            CompilerSettings::beside_own_executable(&engine.name).map_err(CreateError::Programs)?;
        let settings = CompilerSettings {
            version: engine.version.clone(),
            ..settings
        };
        let compiler = Compiler::with_worker_of(self.programs()?, settings)
            .map_err(|source| CreateError::Compile(Box::new(source)))?;
        compilers.push((engine.clone(), compiler.clone()));
        Ok(compiler)
    }

    /// Our executables.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn programs(&self) -> Result<&Programs, CreateError> {
        if let Some(programs) = self.programs.get() {
            return Ok(programs);
        }
        let programs = Programs::beside_own_executable().map_err(CreateError::Programs)?;
        Ok(self.programs.get_or_init(|| programs))
    }

    /// The watch over what runc leaves to the shim. It begins with the first Linux container.
    ///
    /// # Errors
    /// The kernel cannot give a process the orphans among its descendants.
    pub(crate) fn orphans(&self) -> Result<&Orphans, RuncError> {
        if let Some(orphans) = self.orphans.get() {
            return Ok(orphans);
        }
        let orphans = Orphans::adopt()?;
        Ok(self.orphans.get_or_init(|| orphans))
    }

    /// The mount namespace to make containers from, on a node with many mounts.
    pub fn slim_mounts(&self) -> Option<BorrowedFd<'_>> {
        let slim = self.slim.get_or_init(|| {
            slim::of_node(&socket::run_directory(), slim::MANY).unwrap_or_else(|error| {
                log::warn!(
                    "containers start more slowly on this node: {}",
                    chain(&error)
                );
                None
            })
        });
        slim.as_ref().map(AsFd::as_fd)
    }

    /// Finds out what the first container will need, while containerd is still on its way to this shim. What
    /// fails here fails again at Create, and is told then.
    pub fn prepare(&self) {
        drop(self.facts());
        // A handler's options may choose another engine: they come with Create.
        drop(self.compiler(&Engine {
            name: self.runtime.engine.clone(),
            version: None,
        }));
        let _: Option<_> = self.slim_mounts();
    }

    /// Waits for the end of a task, and tells it: first the record, then the state, then the event.
    /// One for each task.
    pub async fn watch(self: Arc<Self>, task: Arc<Task>) {
        let told = oom::Told::default();
        let first = &*task.first;
        let status = tokio::select! {
            status = wait_for_end(&task, first) => status,
            never = oom::watch(&task, &self.events, &told) => match never {},
        };
        // At once: when the last process of a scope is gone, systemd takes its cgroup away, and the count with it.
        // Of a guest that ended well it need not be known, and asking takes time on the way to its end.
        let out_of_memory = status != ExitStatus::Code(0) && told.tell(&task, &self.events);
        // The others of a pid namespace end with its first process; of one that is shared they are ended here.
        if !task.own_pids
            && let Err(error) = task.cgroup.kill()
        {
            log::warn!(
                "could not kill what is left of container {}: {}",
                task.id,
                chain(&error)
            );
        }
        if status != ExitStatus::Code(0) {
            last_words::of_guest(&task, status, out_of_memory);
        }
        all_fetched(first).await;
        // The container's end is the last that is told of it.
        task.idle().await;
        let exit = Exit::now(first.pid(), status.shell_code());
        if let Err(error) = exit.write(&task.bundle) {
            // The event is sent all the same: the record only matters if the shim dies.
            log::warn!(
                "could not write the exit record of container {}: {error}",
                task.id
            );
        }
        self.ended(&task, first, &exit);
        release(first).await;
    }

    /// The same for an exec process, whose end is nobody's but its own. One for each that was started.
    pub async fn watch_exec(self: Arc<Self>, task: Arc<Task>, process: Arc<Process>, busy: Busy) {
        let status = wait_for_end(&task, &process).await;
        all_fetched(&process).await;
        let exit = Exit::now(process.pid(), status.shell_code());
        self.ended(&task, &process, &exit);
        drop(busy);
        release(&process).await;
    }

    fn ended(&self, task: &Task, process: &Process, exit: &Exit) {
        if process.ended(exit.clone()) {
            self.events.exited(&task.id, &process.exec, exit);
            log::debug!("{} has ended with code {}", task.who(process), exit.code);
        }
    }

    /// Lets the first process of a task run, and tells it.
    ///
    /// # Errors
    /// It was started before, or has ended.
    pub async fn start(self: &Arc<Self>, task: &Arc<Task>) -> Result<(), TaskError> {
        if let Backend::Runc(runc) = &task.backend {
            return self.start_by(runc, task).await;
        }
        let begun = task.first.begin();
        let starting = begun.map_err(|state| task.wrong_state(state))?;
        if let Some(control) = starting.control() {
            control.go().map_err(|source| TaskError::Failed {
                operation: "start",
                who: Who::container(&task.id),
                source: source.into(),
            })?;
        }
        starting.runs();
        // No wait since the start: the exit, however early, is told after it.
        self.events.started(&task.id, task.first.pid());
        Ok(())
    }

    /// The same for a Linux container. It is not stopped half way when the call is given up.
    async fn start_by(self: &Arc<Self>, runc: &Runc, task: &Arc<Task>) -> Result<(), TaskError> {
        let (pod, runc, task) = (Arc::clone(self), runc.clone(), Arc::clone(task));
        let started = tokio::spawn(async move {
            // The exit, however early, is told after the start.
            let _busy = task.busy();
            let begun = task.first.begin();
            let starting = begun.map_err(|state| task.wrong_state(state))?;
            let started = runc.start(&task.id).await;
            started.map_err(TaskError::runc("start", Who::container(&task.id)))?;
            starting.runs();
            pod.events.started(&task.id, task.first.pid());
            Ok(())
        });
        started.await.unwrap_or(Err(TaskError::ShuttingDown))
    }

    /// Takes an exec process away.
    ///
    /// # Errors
    /// It runs.
    pub async fn delete_exec(&self, id: &str, exec: &str) -> Result<Exit, TaskError> {
        let task = self.task(id)?;
        let process = task.process(exec)?;
        let _deleting = process.deleting.lock().await;
        // The call before this one may have been faster.
        task.process(exec)?;
        let exit = match process.state() {
            State::Running => {
                return Err(TaskError::WrongState {
                    who: task.who(&process),
                    state: "is running: kill it before it is deleted",
                });
            }
            // It never was. A start that comes now finds nothing.
            State::Created => {
                let started = process.begin();
                let starting = started.map_err(|state| TaskError::WrongState {
                    who: task.who(&process),
                    state,
                })?;
                starting.failed(0);
                Exit::now(0, 0)
            }
            State::Stopped(exit) => exit,
        };
        process.close();
        task.remove(exec);
        Ok(exit)
    }

    /// Takes a container away: its processes, its cgroup, its place here.
    ///
    /// # Errors
    /// It runs, or something of it cannot be removed; then it is still here and the call can be repeated.
    pub async fn delete(&self, id: &str) -> Result<Exit, TaskError> {
        // containerd deletes a container whose creation takes too long; nothing answers its request then.
        if let Some(place) = self.tasks().by_id.get(id) {
            place.give_up();
        }
        let task = self.task(id)?;
        let _deleting = task.deleting.lock().await;
        // The call before this one may have been faster.
        self.task(id)?;
        match task.state() {
            State::Running => {
                return Err(TaskError::WrongState {
                    who: Who::container(&task.id),
                    state: "is running: kill it before it is deleted",
                });
            }
            State::Created => match task.kill(&task.first, 9, false) {
                Ok(()) | Err(TaskError::Finished { .. }) => {}
                Err(error) => return Err(error),
            },
            State::Stopped(_) => {}
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| TaskError::Failed {
            operation: "delete",
            who: Who::container(&task.id),
            source,
        };
        let mut exit = task.first.exit();
        let exit = match timeout(DELETE_PATIENCE, exit.wait_for(Option::is_some)).await {
            Ok(Ok(exit)) => exit.clone(),
            _ => None,
        };
        let Some(exit) = exit else {
            return Err(failed("its process does not end".into()));
        };
        if let Backend::Runc(runc) = &task.backend {
            let deleted = runc.delete(&task.id).await;
            deleted.map_err(TaskError::runc("delete", Who::container(&task.id)))?;
        }
        remove_cgroup(&task)
            .await
            .map_err(|error| failed(error.into()))?;
        task.first.close();
        drop(
            task.mounts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        if let Backend::Host(host) = &task.backend {
            host.close().await;
        }
        leftovers::forget(&self.bundle, &task.id);
        leftovers::forget(&task.bundle, &task.id);
        self.tasks().by_id.remove(&task.id);
        self.events.deleted(&task.id, &exit);
        Ok(exit)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn give_up(&self) {
        if let Self::Creating(unwanted) = self {
            unwanted.notify_one();
        }
    }
}

impl Reservation<'_> {
    /// Waits until nobody wants the container any more.
    pub async fn unwanted(&self) {
        self.unwanted.notified().await;
    }

    /// The container is created.
    pub fn fill(mut self, task: Arc<Task>) {
        self.filled = true;
        self.pod
            .tasks()
            .by_id
            .insert(self.id.clone(), Place::Created(task));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.pod.tasks().by_id.remove(&self.id);
        }
    }
}

/// Waits on the pidfd, and takes the exit status from the kernel.
async fn wait_for_end(task: &Task, process: &Process) -> ExitStatus {
    let Some(pidfd) = process.pidfd() else {
        log::error!("{} is watched and was never there", task.who(process));
        return ExitStatus::Code(u8::MAX);
    };
    let watched = watch_readable(pidfd);
    loop {
        match process::try_wait(pidfd) {
            Ok(Some(status)) => return status,
            Ok(None) => {}
            Err(error) => {
                log::error!("lost sight of {}: {error}", task.who(process));
                return ExitStatus::Code(u8::MAX);
            }
        }
        match &watched {
            Ok(watched) => match watched.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => sleep(READER_PAUSE).await,
            },
            // Without the event loop (its memory is used up) there is still the clock.
            Err(_) => sleep(READER_PAUSE).await,
        }
    }
}

/// A guest may be done before its log's reader has begun, and a client of containerd that hears of the end of a
/// process stops opening its FIFOs: the output would be lost.
async fn all_fetched(process: &Process) {
    if let Some(body) = process.body() {
        if let Some(terminal) = &body.terminal {
            terminal.copied_within(READER_PATIENCE).await;
        }
        body.keepers.drained_within(READER_PATIENCE).await;
    }
}

/// Output that nobody has read yet is kept until a reader comes or the process is deleted, and so is the end of what was
/// never written: a client's open for reading may be under way.
async fn release(process: &Process) {
    if let Some(body) = process.body() {
        if let Some(terminal) = &body.terminal {
            terminal.copied().await;
        }
        let mut pause = READER_PAUSE;
        while !body.keepers.release() {
            sleep(pause).await;
            // Who did not come by now comes when somebody asks for the log, if ever.
            pause = (pause * 2).min(READER_PAUSE_MOST);
        }
    }
}

/// Kills what is left in the container's cgroup, and removes it. Waits without holding up others.
async fn remove_cgroup(task: &Task) -> Result<(), skiff_sandbox::cgroup::CgroupError> {
    let deadline = Instant::now() + DELETE_PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let removed = if task.cgroup.is_scope() {
            // systemd takes its time.
            let cgroup = task.cgroup.clone();
            let removed = tokio::task::spawn_blocking(move || cgroup.try_remove());
            removed.await.unwrap_or_else(|_| task.cgroup.try_remove())
        } else {
            task.cgroup.try_remove()
        };
        let error = match removed {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        if let Err(error) = task.cgroup.kill() {
            log::warn!(
                "could not kill what is left of container {}: {}",
                task.id,
                chain(&error)
            );
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
