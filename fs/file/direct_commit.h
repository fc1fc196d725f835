// Commits of one file that go past the pipeline: clones of blocks (file_io_clone.cc), and what
// fallocate(2) reserves and gives back (file_io_allocate.cc). The file is settled meanwhile: it has
// no changes and gets none.
#pragma once

#include <optional>
#include <utility>

#include "fs/file/file_io.h"

namespace datacloud {

// Both files as they are; or one, which is then its own source. The destructor lets changes of the
// target go on.
struct FileIo::Sharing {
  Sharing(InodePtr target, UseGuard target_use, std::optional<UseGuard> source_use)
      : target(std::move(target)),
        target_use(std::move(target_use)),
        source_use(std::move(source_use)) {}
  ~Sharing() {
    std::lock_guard lock(target->mutex);
    target->sharing = false;
    target->changed.notify_all();
  }

  const InodePtr target;
  const UseGuard target_use;
  const std::optional<UseGuard> source_use;  // none within one file
};

// One commit, under the target's mutex once it is sent.
struct FileIo::DirectCommit {
  enum class Outcome { applied, not_shared, again };

  const char* what = "";   // for errors
  pb::InodeUpdate update;  // what it does; the rest is filled in when it is sent
  uint64_t change_id = 0;
  int64_t now_ns = 0;
  bool answered = false;
  bool abandoned = false;  // its caller does not wait any more
  bool in_doubt = false;   // it may have been executed though no answer says so
  Outcome outcome = Outcome::again;
  std::optional<Error> error;
};

}  // namespace datacloud
