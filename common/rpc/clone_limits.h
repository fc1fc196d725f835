// Bounds on what one commit may share by reference (InodeUpdate.clones): the daemon works on one
// transaction at a time, so that none may take long. A long clone is several commits.
//
// One update of a commit has clones. Commits over the first two bounds are refused as invalid.
// Ranges of more runs than kCloneRunsMax are NOT_SHARED, and the mount asks for less.
#pragma once

#include <cstdint>

namespace datacloud {

inline constexpr int kClonesMax = 64;                  // of one commit
inline constexpr uint64_t kCloneBlocksMax = 1u << 16;  // of all clones of one commit
// Runs that an update's clones have at their sources, and in what they take the place of, together.
inline constexpr uint32_t kCloneRunsMax = 1024;
// One clone of so many blocks is never NOT_SHARED for its runs.
inline constexpr uint32_t kCloneBlocksSure = kCloneRunsMax / 2;

}  // namespace datacloud
