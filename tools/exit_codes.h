// Every exit code of `datacloud`. Scripts rely on them.
#pragma once

namespace datacloud {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,  // the text on stderr says what failed, where, and what to do
  kExitUsage = 2,   // the command line is wrong; nothing was done
};

}  // namespace datacloud
