// Every exit code of `datacloud`. Scripts rely on them.
#pragma once

namespace datacloud {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,  // the text on stderr says what failed, where, and what to do
  kExitUsage = 2,   // the command line is wrong; nothing was done
};

// fsck has those of fsck(8).
enum FsckCode : int {
  kFsckClean = 0,
  kFsckCorrected = 1,
  kFsckLeft = 4,  // found, and not corrected
  kFsckOperational = 8,
  kFsckUsage = 16,
};

}  // namespace datacloud
