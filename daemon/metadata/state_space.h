// Room for the metadata on the daemon's disk, kept in two ways, so that a full disk stops what
// would make the metadata grow and nothing else:
//  - while less than `floor` bytes are free, refusal() says so, and the service refuses to add
//    records; deleting, sessions and everything that reads go on;
//  - as much again lies in files of our own (reserve.N), which are given up one by one when a write
//    of the store meets ENOSPC, whoever has filled the disk, so that it succeeds after all. They
//    are made anew when there is room.
// floor: a sixteenth of the disk, 1 to 32 MiB. The files hold noise: zeros take no space on file
// systems that compress. They may be deleted while the daemon does not run.
//
// Threads: all methods from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/file_layer.h"

namespace datacloud {

class StateSpace {
 public:
  static constexpr uint64_t kFloorMin = 1u << 20, kFloorMax = 32u << 20;
  static constexpr int kPieces = 16;  // files of the reserve

  // `directory` exists; `files` is what is below make_reserving_files().
  StateSpace(std::shared_ptr<FileLayer> files, std::string directory);

  const std::string& directory() const { return directory_; }
  // The failure for what would add records, while the disk is full. Looks at the disk at most every
  // kAge.
  std::optional<Error> refusal();
  // From now on refusal() is this: the store cannot write.
  void set_failed(const Error&);
  // Whether files can be made in the directory and there is room: what a store needs that could not
  // write.
  bool writable();
  // Gives up a piece of the reserve; false when none is left.
  bool give();
  // Makes one piece that is missing, if that leaves enough room; false when there was nothing to
  // do.
  bool replenish();

 private:
  static constexpr Duration kAge = milliseconds(100);

  std::string piece(int number) const { return directory_ + "/reserve." + std::to_string(number); }
  uint64_t floor_of(uint64_t bytes_total) const;

  const std::shared_ptr<FileLayer> files_;
  const std::string directory_;
  std::mutex mutex_;
  MonotonicTime looked_{};
  std::optional<Error> refusal_, failed_;
};

// The layer below with every call that meets ENOSPC tried again as long as the reserve gives room.
std::shared_ptr<FileLayer> make_reserving_files(std::shared_ptr<FileLayer>,
                                                std::shared_ptr<StateSpace>);

}  // namespace datacloud
