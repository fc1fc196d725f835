// Names of the states of a file: what a commit makes, and what it may follow (InodeUpdate).
//
// Thread safety: the caller holds the inode's mutex.
#pragma once

#include <cstdint>
#include <vector>

#include "fs/file/inode.h"

namespace datacloud {

// Of the state that the next commit makes: drawn at random, never 0, which is the id of files
// written before there were such ids. With many failed commits in doubt the last one's again.
uint64_t next_change_id(const Inode&);

// What a new unit may follow: the unit before it, with which it fails, or what the daemon has for
// certain or perhaps.
std::vector<uint64_t> states_to_follow(const Inode&);

// Of a commit that may have been executed though no answer says so.
void note_unsure(Inode&, uint64_t change_id);

}  // namespace datacloud
