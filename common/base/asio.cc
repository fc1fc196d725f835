// The bodies of Boost.Asio, compiled once (see asio.h).
#include "common/base/asio.h"
//
#include <boost/asio/impl/src.hpp>
