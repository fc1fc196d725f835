// LevelDB keys: one prefix byte, then fixed-width big-endian integers (so that range scans follow
// the tree), then a name where there is one. docs/format.md lists every record type.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace datacloud::key {

std::string meta(std::string_view name);  // 'A': "cloud", "sequence", "start", "next_id/KIND"
std::string inode(InodeId);               // 'I' ino
std::string entry(InodeId parent, std::string_view name);  // 'E' parent name
std::string cookie(InodeId parent, uint64_t cookie);       // 'D' parent cookie -> name
std::string xattr(InodeId, std::string_view name);         // 'X' ino name
std::string run(InodeId, uint64_t first_block);            // 'M' ino first_block
std::string inline_block(InodeId, uint64_t block);         // 'V' ino block -> sealed block
// 'W' ino block version -> sealed patch
std::string patch(InodeId, uint64_t block, ContentVersion);
std::string run_fence();                           // 'N' behind all runs
std::string stripe(StripeId);                      // 'S' stripe
std::string live(StripeId);                        // 'L' stripe -> StripeLive
std::string owner(StripeId, uint32_t first_slot);  // 'R' stripe slot -> Owner
// 'J' stripe slot ino block -> Owner: a further reference to slots that have one
std::string shared(StripeId, uint32_t first_slot, InodeId, uint64_t first_block);
std::string former(StripeId, uint32_t first_slot);  // 'F' stripe slot -> previous Owner
std::string orphan(InodeId);                        // 'O' ino: nlink 0, to be reclaimed
std::string tree(uint32_t id);                      // 'T' tree -> Tree
std::string tree_counters(uint32_t id);             // 'U' tree -> TreeCounters
std::string session(SessionId);                     // 'C' session
std::string reply(SessionId, uint64_t request);     // 'Q' session request -> pb::Reply
std::string pending_fence();                        // 'Q' before all replies
std::string granted(IdKind, uint64_t first);        // 'G' kind first -> GrantedRange
std::string pending(uint64_t number);               // 'P' number -> PendingDeletion
std::string damage(StripeId, uint32_t column);      // 'B' stripe column -> Damage
std::string quarantine(std::string_view key);       // 'Z' key: what fsck has taken out or replaced
std::string quarantine_note(std::string_view key);  // 'Y' key -> QuarantineNote
std::string repair(uint8_t remaining, StripeId);    // 'K' remaining stripe: to be repaired
std::string node(std::string_view name);            // 'n' name -> Node
std::string undo(uint64_t number);                  // 'u' number -> JournalUndo
std::string reservation(InodeId);                   // 'H' ino -> Reservation
// 'h' tree code -> bytes that files of the tree have reserved under the code
std::string reserved_sum(uint32_t tree, std::string_view code);

// Integers at `offset` of a key; the caller has checked the length.
uint64_t u64_at(std::string_view key, size_t offset);
uint32_t u32_at(std::string_view key, size_t offset);
// The smallest key above every key that starts with `prefix`.
std::string after_prefix(std::string prefix);

}  // namespace datacloud::key
