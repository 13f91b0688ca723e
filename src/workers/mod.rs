//! The work itself: async, written against ports, told what to do and free to state facts.
