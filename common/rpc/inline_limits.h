// Bounds on the bytes of files that a commit brings into the metadata and that a block map gives
// back (SealedPiece, feature "inline"). Commits over them are refused as invalid.
#pragma once

#include <cstdint>

namespace datacloud {

inline constexpr int kCommitPiecesMax = 1024;
// Of one commit, sealed. A journal entry holds 4 MiB, and a batch of commits is one.
inline constexpr uint64_t kCommitPieceBytesMax = 1u << 20;
inline constexpr uint32_t kPieceBytesMax = 128u << 10;  // of one block or patch, sealed
// The pieces of a reply to MapRequest reach so many bytes: it ends with the run that they are of,
// and says nothing of what is behind.
inline constexpr uint64_t kMapPieceBytes = 1u << 20;

}  // namespace datacloud
