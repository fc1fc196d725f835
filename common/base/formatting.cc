// The one place where fmt's formatting is compiled: cmake/precompiled.h keeps it out of all others,
// in each of which the same code took a third of the compiler's time.
#include <fmt/format.h>

template void fmt::detail::vformat_to<char>(buffer<char>&, basic_string_view<char>, format_args,
                                            locale_ref);
