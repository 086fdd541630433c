"""A robot's arm with a gripper over a table and a cube on it: MuJoCo moves it, rays of our own draw it.

May import ops and core. Importing `world` needs mujoco (`pip install 'tacit[robots]'`); pictures need nothing.
Legend: metres, radians, seconds; a hand's state is [x y z a b c g] of `tacit.ops.pose`.
"""
