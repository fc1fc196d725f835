// The environment LevelDB runs in: every file it makes goes through a FileLayer.
//
// What LevelDB's own environment leaves open and this one keeps:
//  - a log file is synced before it is closed, so a synced batch in a new log never survives an
//    unsynced one in the log before it;
//  - a file's name is durable when its first sync returns, and so is every rename (CURRENT);
//  - a log or MANIFEST that a power cut tore is read as the longest prefix of whole records: never
//    a later record without an earlier one, and never a failure because of a torn tail. A log that
//    has successors was synced in full: a torn record there is corruption, and reported;
//  - the first failed write or sync of a log makes every later one fail (a failed fsync may have
//    dropped pages, and trying again would lie).
//
// LevelDB's types stay behind this class: its derived classes are compiled without RTTI.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/base/error.h"
#include "common/base/file_layer.h"

namespace leveldb {
class Env;
class Logger;
}  // namespace leveldb

namespace datacloud {

class LevelDbEnv {
 public:
  explicit LevelDbEnv(std::shared_ptr<FileLayer>);
  ~LevelDbEnv();  // after the database is closed

  leveldb::Env* env();
  leveldb::Logger* logger();  // drops LevelDB's chatter; its errors arrive as statuses
  // Makes everything written to LevelDB's log so far survive a power cut, without entering
  // LevelDB, so writers do not wait. From one thread at a time, any thread.
  result<void> sync_log();
  // The first change of a file that has failed, with its errno, which LevelDB's statuses do not
  // have.
  std::optional<Error> change_failure() const;
  // True after LevelDB could not take the lock of a database: another process has it.
  bool lock_is_held() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
