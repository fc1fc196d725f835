// Whether the program that waits for a request is being killed, as /proc tells.
//
// The kernel sends INTERRUPT for any signal, also for those that a program handles: timers, a
// child's end, a window's new size. A local file system interrupts nothing for these, and programs
// do not expect EINTR from stat(2) or fsync(2); so only a signal that ends the program counts.
//
// Thread safety: functions of their arguments and /proc.
#pragma once

#include <sys/types.h>

#include <string_view>

namespace datacloud {

// `thread`: as in a request's header. True when the thread is gone, has a signal pending that will
// end it, or was killed and is ending; also when that cannot be told (0: it is in a PID name space
// that this one does not see), since a program that cannot be killed is worse than an EINTR.
bool is_dying(pid_t thread);

// The two halves, for tests: /proc/TID/status and /proc/TID/stat.
bool has_fatal_signal(std::string_view status);
bool was_killed(std::string_view stat);

}  // namespace datacloud
