//! The mount namespace that containers are made from on a node with many mounts.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use skiff_sandbox::plan::{JoinNamespace, Namespace};
use skiff_sandbox::slim;
use skiff_sandbox::sys::{mount, process};

use crate::harness::{Alone, Case, Image};

/// One of a test's own.
pub(crate) struct Slim {
    run: PathBuf,
    namespace: OwnedFd,
}

impl Slim {
    pub(crate) fn new(image: &Image) -> Self {
        let run = image.path("run");
        std::fs::create_dir_all(&run).unwrap();
        let namespace = slim::of_node(&run, 1).unwrap().unwrap();
        Self { run, namespace }
    }

    /// `case`, started from here.
    pub(crate) fn start_of(&self, mut case: Case) -> Case {
        let namespace = self.namespace.try_clone().unwrap();
        if let Some(user) = &mut case.user {
            user.join.push((Namespace::Mount, namespace));
            return case;
        }
        let from = case.slot(namespace);
        case.plan.join.push(JoinNamespace {
            kind: Namespace::Mount,
            from,
        });
        case
    }
}

impl Drop for Slim {
    fn drop(&mut self) {
        slim::remove(&self.run).unwrap();
    }
}

fn mounts_of_node() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .count()
}

fn inode(file: &OwnedFd) -> u64 {
    std::fs::File::from(file.try_clone().unwrap())
        .metadata()
        .unwrap()
        .ino()
}

#[test]
fn it_is_made_once_and_taken_away_whole() {
    let _alone = Alone::new();
    let image = Image::new();
    let before = mounts_of_node();
    let slim = Slim::new(&image);
    assert_eq!(mounts_of_node(), before + 2);
    let found = slim::of_node(&slim.run, usize::MAX).unwrap().unwrap();
    assert_eq!(inode(&found), inode(&slim.namespace));
    let own = std::fs::metadata("/proc/self/ns/mnt").unwrap().ino();
    assert_ne!(inode(&found), own);
    assert!(slim::remove(&slim.run).unwrap());
    assert_eq!(mounts_of_node(), before);
    assert!(!slim::remove(&slim.run).unwrap());
    assert!(!slim.run.join("mounts").exists());
    assert!(slim::of_node(&slim.run, 10_000).unwrap().is_none());
    // Made anew at the same place, also by several at once.
    let made: Vec<u64> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| inode(&slim::of_node(&slim.run, 1).unwrap().unwrap())))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
    assert_eq!(mounts_of_node(), before + 2);
}

#[test]
fn a_node_with_few_mounts_is_left_alone() {
    let image = Image::new();
    let run = image.path("run");
    assert!(slim::of_node(&run, 10_000).unwrap().is_none());
    assert!(!run.exists());
    assert!(mount::at_least(2).unwrap());
    assert!(!mount::at_least(10_000).unwrap());
}

#[test]
fn a_directory_that_others_write_to_is_not_used() {
    let image = Image::new();
    let run = image.path("run");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = slim::of_node(&run, 1).unwrap_err();
    assert!(error.to_string().starts_with("could not use "), "{error}");
    assert!(!slim::remove(&run).unwrap());
}

#[test]
fn a_container_started_from_it_has_its_own_mounts_and_no_others() {
    let _alone = Alone::new();
    let image = Image::new();
    let slim = Slim::new(&image);
    let case = Case::new(&image, &["wait"]).bind(&image.outside(), "/data");
    let running = slim.start_of(case).start();
    let mounts = running.mounts();
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    assert_eq!((mounts[0].0.as_str(), mounts[1].0.as_str()), ("/", "/data"));
    drop(running);
    let case = Case::new(
        &image,
        &["each", "read:/etc/name", "list:/data", "list:/proc"],
    )
    .bind(&image.outside(), "/data");
    let output = slim.start_of(case).run();
    assert_eq!(
        output,
        "read:/etc/name ok image\nlist:/data ok secret\nlist:/proc errno 2\n"
    );
}

/// In a process namespace with hundreds of mounts: what the container copies stays three.
#[test]
fn what_a_container_copies_does_not_grow_with_the_node() {
    let _alone = Alone::new();
    let image = Image::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            process::unshare_mounts_of_thread().unwrap();
            let place = image.path("many");
            std::fs::create_dir_all(&place).unwrap();
            mount::change_all_propagation(skiff_sandbox::plan::Propagation::Private).unwrap();
            for _ in 0..150 {
                let tree = mount::Context::open("tmpfs").unwrap().mount(0).unwrap();
                mount::attach_path(std::os::fd::AsFd::as_fd(&tree), &place).unwrap();
            }
            let run = image.path("run");
            std::fs::create_dir_all(&run).unwrap();
            let namespace = slim::of_node(&run, slim::MANY).unwrap().unwrap();
            process::enter(std::os::fd::AsFd::as_fd(&namespace), Namespace::Mount).unwrap();
            let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            assert_eq!(mounts.lines().count(), 3, "{mounts}");
            assert!(
                mounts.lines().next().unwrap().contains(" / ro,"),
                "{mounts}"
            );
        });
    });
}

/// The numbers by which the kernel tells which of two namespaces is older are of no use between processors.
#[test]
fn it_is_made_whichever_processor_made_the_namespace_around() {
    let _alone = Alone::new();
    for around in 0..process::processors() {
        for maker in 0..process::processors() {
            let image = Image::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    process::pin_thread(around).unwrap();
                    process::unshare_mounts_of_thread().unwrap();
                    mount::change_all_propagation(skiff_sandbox::plan::Propagation::Private)
                        .unwrap();
                    process::pin_thread(maker).unwrap();
                    let run = image.path("run");
                    std::fs::create_dir_all(&run).unwrap();
                    drop(slim::of_node(&run, 1).unwrap().unwrap());
                });
            });
        }
    }
}
