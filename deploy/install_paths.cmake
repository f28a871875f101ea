# Runs when nemogate is installed: puts the files in place whose path or content depends on the
# prefix. Given: packaging_dir, build_dir, CMAKE_INSTALL_PREFIX.
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
    set(config_dir /etc/nemogate)
else()
    set(config_dir ${CMAKE_INSTALL_PREFIX}/etc/nemogate)
endif()
configure_file(${packaging_dir}/nemogate.service.in ${build_dir}/nemogate.service @ONLY)
file(INSTALL ${build_dir}/nemogate.service DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/systemd/system)
file(MAKE_DIRECTORY $ENV{DESTDIR}${config_dir})
