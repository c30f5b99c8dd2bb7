//! A full disk: `MUSTER_FULL=DIR` on a small file system of its own, such as a 24 MiB tmpfs.

use std::fs::File;
use std::io::Write;

use super::*;

#[test]
#[ignore = "needs a file system of its own"]
fn a_full_disk_refuses_changes_keeps_reads_and_goes_on_when_there_is_room() {
    let Some(root) = std::env::var_os("MUSTER_FULL").map(PathBuf::from) else { return };
    let dir = TempDir::new_in(&root).unwrap();
    let filler = root.join("filler");
    let store = open(&dir.path().join("data"));
    put(&store, 0, "before");
    let mut stored = vec![0];
    for round in 1..4_u32 {
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[1; 4_096]).is_ok() {}
        let mut tried = round * 10_000;
        loop {
            tried += 1;
            let done = commit(&store, |tx| {
                tx.put(NUMBERS, &(1, tried), &"x".repeat(500)).unwrap();
                tx.emit(0, draft("{}"));
            });
            match done {
                Ok(()) => stored.push(tried),
                Err(err) => break println!("{err}"),
            }
        }
        assert!(store.has_failed());
        // Sled may hit the end of the disk as well.
        let settled = store.core.state.settle();
        let synced = store.core.state.sync();
        println!("{settled:?} {synced:?} {:?}", store.stats());
        std::thread::sleep(Duration::from_millis(2_500));
        assert_eq!(all(&store).into_keys().map(|key| key.1).collect::<Vec<_>>(), stored);
        drop(file);
        std::fs::remove_file(&filler).unwrap();
        store.recover();
        for more in 0..2_000 {
            let id = round * 10_000 + 5_000 + more;
            put(&store, id, &"y".repeat(200));
            stored.push(id);
        }
        assert_eq!(all(&store).into_keys().map(|key| key.1).collect::<Vec<_>>(), stored);
    }
    for _ in 0..100 {
        if store.core.state.pending_bytes() == 0 && store.core.state.sync().is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{:?}", store.stats());
    assert_eq!(store.core.state.stored(), store.core.state.position());
    drop(store);
    let store = open(&dir.path().join("data"));
    assert_eq!(all(&store).into_keys().map(|key| key.1).collect::<Vec<_>>(), stored);
    assert_eq!(store.latest(), u64::try_from(stored.len()).unwrap());
}
